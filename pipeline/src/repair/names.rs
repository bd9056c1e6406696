//! Names that leave the house: what a language model and webhooks are told of paths that came. Keys of an object may be
//! somebody's values (`people.ann@x.com`): those are told to nobody but the tenant's own people.

use schemas::mapping::Path;

use super::{Case, MASKED, Mask};
use crate::step::StreamState;

/// Which paths may be named of a case.
pub(super) struct Names<'a> {
    state: &'a StreamState,
    case: u64,
    mask: Mask,
}

impl<'a> Names<'a> {
    /// Those of a case; `masked` are the names that the policy masks. Nothing is known of a stream that is not open.
    pub(super) fn of_case(state: &'a StreamState, case: u64, masked: &[String]) -> Option<Self> {
        Some(Self { state, case, mask: Mask::of_stream(state, masked)? })
    }

    /// Whether a path may be named: the mapping reads it, or it lies inside nothing that is masked and enough of the case's
    /// records have it.
    pub(super) fn may_tell(&self, path: &str) -> bool {
        let Ok(path) = Path::new(path) else { return false };
        let (Some(parts), Some(text)) = (path.choices().first(), path.texts().next()) else { return false };
        let (tree, drift) = (self.state.shape(), self.state.drift());
        let is_common = || drift.is_common(self.case, tree.find(parts), tree, self.state.next.offset);
        self.mask.knows(&text) || (!self.mask.hides_name(&text, parts.len() > 1) && is_common())
    }
}

impl Case {
    /// The case as webhooks tell it: the paths that came and may not be named are counted, and masked where a proposal
    /// leads there. Without the state of its stream none may.
    #[must_use]
    pub fn told_outside(&self, state: Option<&StreamState>, masked: &[String]) -> Self {
        let names = state.and_then(|state| Names::of_case(state, self.position.offset, masked));
        let is_lost = |path: &String| self.lost.iter().any(|lost| lost.path == *path);
        let may_tell = |path: &String| is_lost(path) || names.as_ref().is_some_and(|names| names.may_tell(path));
        let mut told = self.clone();
        told.added.retain(may_tell);
        told.added_more += (self.added.len() - told.added.len()) as u64;
        let mut hidden = Vec::new();
        for path in told.moves.iter_mut().flat_map(|to| &mut to.to) {
            if !may_tell(path) {
                hidden.push(std::mem::replace(path, MASKED.to_owned()));
            }
        }
        let is_named = |why: &String| hidden.iter().any(|path: &String| why.contains(path.as_str()));
        for why in [&mut told.waits, &mut told.breaks] {
            if why.as_ref().is_some_and(is_named) {
                *why = Some("it leads to a path that few records have: see the case".to_owned());
            }
        }
        told
    }
}
