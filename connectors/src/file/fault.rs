//! What can go wrong inside a file, before the file's name is known.

use std::io;
use std::path::Path;

use pipeline::source::SourceError;

/// A reader of one file cannot go on.
#[derive(Debug)]
pub(super) enum Fault {
    /// Reading failed.
    Io(io::Error),
    /// The content makes no sense from here on.
    Content(String),
    /// The user must decide something.
    Config(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Fault {
    /// The error with the name of the file.
    pub(super) fn of(self, path: &Path) -> SourceError {
        let what = path.display().to_string();
        match self {
            Self::Io(source) => SourceError::Io { what, source },
            Self::Content(message) => SourceError::Content { what, message },
            Self::Config(message) => SourceError::Config(format!("{what}: {message}")),
        }
    }
}
