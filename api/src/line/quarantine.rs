//! What was set aside, page by page.

use pipeline::StoreError;
use pipeline::quarantine::{self, Note, SettledNote};
use schemas::{StreamId, TenantId};

use super::Line;

impl Line {
    /// What was set aside of a tenant, or of one of its streams, behind `after`: at most `limit`, and, if there is more, what
    /// the next page comes behind. What waits, or what was settled and how.
    pub async fn quarantined(
        &self,
        tenant: TenantId,
        stream: Option<&StreamId>,
        is_settled: bool,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<(Note, Option<SettledNote>)>, Option<String>), StoreError> {
        // One more than asked for tells whether there are more.
        let mut found: Vec<(String, (Note, Option<SettledNote>))> = match is_settled {
            false => {
                let notes = quarantine::list(&*self.store, tenant, stream, after, limit + 1).await?;
                notes.into_iter().map(|(key, note)| (key, (note, None))).collect()
            }
            true => {
                let notes = quarantine::list_settled(&*self.store, tenant, stream, after, limit + 1).await?;
                notes.into_iter().map(|(key, settled)| (key, (settled.note.clone(), Some(settled)))).collect()
            }
        };
        let is_more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| is_more).map(|(key, _)| key.clone());
        Ok((found.into_iter().map(|(_, found)| found).collect(), next))
    }
}
