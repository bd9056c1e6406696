//! Asks the storage of views for what they need of it, before anything depends on it.

use std::path::PathBuf;

use object_store::path::Path;
use object_store::{Error, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};

use super::Place;
use crate::view::trouble::Trouble;

/// Where what is put for a test lies; it is deleted at once.
const PROBES: &str = "_probe";

/// What a process does with the views of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It reads them.
    Read,
    /// It writes them too.
    Write,
}

/// A place where views cannot lie, or not now.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// No place can be called so.
    #[error("{location:?} is no place for views: {reason}; write a folder, or s3://BUCKET/PREFIX")]
    Location {
        /// What was written.
        location: String,
        /// What is wrong.
        reason: String,
    },
    /// Settings that do not go together.
    #[error("the settings of {location} cannot be used: {reason}")]
    Settings {
        /// The place.
        location: String,
        /// What is wrong.
        reason: String,
    },
    /// Object stores were left out of this build.
    #[error("this build cannot reach {0}: build it with the feature `s3`")]
    NotBuilt(String),
    /// A folder that cannot be made or opened.
    #[error("the folder {} cannot be used: {source}", .folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There is no such bucket.
    #[error("the bucket of {0} is not there: make it, or correct the location")]
    NoBucket(String),
    /// The login, or its right to read.
    #[error(
        "{location} refuses to be read: {reason}; correct access_key, secret_key and region, or give the login the rights to list and read"
    )]
    Denied {
        /// The place.
        location: String,
        /// What it said.
        reason: String,
    },
    /// It can be read and not written.
    #[error(
        "{location} can be read, and refuses to be written: {reason}; give the login the rights to write and delete, or run no projector here"
    )]
    ReadOnly {
        /// The place.
        location: String,
        /// What it said.
        reason: String,
    },
    /// A second put where an object is was taken.
    #[error(
        "{0} overwrites objects that are to be made once: two projectors could take each other's commits away; use a store that honours If-None-Match on put"
    )]
    Overwrites(String),
    /// It does not answer.
    #[error("{location} does not answer: {reason}; see that the endpoint is right and its server runs")]
    Away {
        /// The place.
        location: String,
        /// What happened.
        reason: String,
    },
    /// Anything else.
    #[error("{location} cannot be used: {reason}")]
    Failed {
        /// The place.
        location: String,
        /// What happened.
        reason: String,
    },
}

impl PlaceError {
    /// Whether the same may work in a moment.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Away { .. })
    }
}

impl Place {
    /// Asks the storage whether views can be read there, and written with the promise that commits need: of several puts
    /// of one object exactly one is taken.
    pub async fn check(&self, access: Access) -> Result<(), PlaceError> {
        let store = self.store();
        let probes = Path::from(PROBES);
        store.list_with_delimiter(Some(&probes)).await.map_err(|e| self.unreadable(&e))?;
        if access == Access::Read {
            return Ok(());
        }
        let probe = probes.join(uuid::Uuid::now_v7().to_string());
        let put = || store.put_opts(&probe, PutPayload::from_static(b"probe"), PutOptions::from(PutMode::Create));
        put().await.map_err(|e| self.unwritable(&e))?;
        let again = put().await;
        store.delete(&probe).await.map_err(|e| self.unwritable(&e))?;
        match again {
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(()),
            Ok(_) => Err(PlaceError::Overwrites(self.url().to_string())),
            Err(error) => Err(self.unwritable(&error)),
        }
    }
    fn unreadable(&self, error: &Error) -> PlaceError {
        let (location, reason) = (self.url().to_string(), error.to_string());
        match Trouble::of(error) {
            Trouble::NoBucket | Trouble::Gone => PlaceError::NoBucket(location),
            Trouble::Denied => PlaceError::Denied { location, reason },
            Trouble::Away => PlaceError::Away { location, reason },
            Trouble::Full | Trouble::Other => PlaceError::Failed { location, reason },
        }
    }
    fn unwritable(&self, error: &Error) -> PlaceError {
        let (location, reason) = (self.url().to_string(), error.to_string());
        match Trouble::of(error) {
            Trouble::Denied => PlaceError::ReadOnly { location, reason },
            Trouble::Gone => PlaceError::Failed { location, reason },
            _ => self.unreadable(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use url::Url;

    use super::*;

    #[tokio::test]
    async fn a_store_that_makes_objects_once_passes_and_nothing_of_the_test_stays() {
        let place = Place::remote(Arc::new(InMemory::new()), Url::parse("s3://lake/views").unwrap());
        place.check(Access::Write).await.unwrap();
        let left = place.store().list_with_delimiter(None).await.unwrap();
        assert!(left.objects.is_empty() && left.common_prefixes.is_empty());
        let folder = tempfile::tempdir().unwrap();
        Place::local(folder.path()).unwrap().check(Access::Write).await.unwrap();
    }
}
