//! What was set aside, page by page.

use pipeline::StoreError;
use pipeline::quarantine::{self, Note};
use schemas::{StreamId, TenantId};

use super::Line;

impl Line {
    /// What was set aside of a tenant, or of one of its streams, behind `after`: at most `limit`, and, if there is more, what
    /// the next page comes behind.
    pub async fn quarantined(
        &self,
        tenant: TenantId,
        stream: Option<&StreamId>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Note>, Option<String>), StoreError> {
        // One more than asked for tells whether there are more.
        let mut notes = quarantine::list(&*self.store, tenant, stream, after, limit + 1).await?;
        let is_more = notes.len() > limit;
        notes.truncate(limit);
        let next = notes.last().filter(|_| is_more).map(|(key, _)| key.clone());
        Ok((notes.into_iter().map(|(_, note)| note).collect(), next))
    }
}
