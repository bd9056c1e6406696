//! Who asks a server, and where that is kept: one file a server, in the user's configuration folder, for its owner alone.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Address, ClientError};

/// The variable with the API key of a program.
pub const API_KEY: &str = "AUTONOMOS_API_KEY";

/// What is sent to be known by, and what it was good for when it was given.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The server.
    pub server: String,
    /// A session's token, or an API key.
    pub token: String,
    /// The tenant's name.
    pub tenant: String,
    /// Who: an address, or an API key's name.
    pub name: String,
    /// Until when it counts, if that is known.
    pub expires_at: Option<String>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("server", &self.server).field("name", &self.name).finish_non_exhaustive()
    }
}

/// What is kept of servers.
#[derive(Debug, Clone)]
pub struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// In the user's configuration folder: `$XDG_CONFIG_HOME/autonomos`, or `~/.config/autonomos`.
    pub fn of_user() -> Result<Self, ClientError> {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
        let missing = "neither XDG_CONFIG_HOME nor HOME names a folder to keep the sign-in in: set one";
        let base = base.ok_or_else(|| ClientError::Setup(missing.into()))?;
        Ok(Self { folder: base.join("autonomos") })
    }

    /// The credential for a server, if somebody has signed in.
    pub fn credential(&self, server: &Address) -> Result<Option<Credential>, ClientError> {
        let path = self.path(server);
        let Some(text) = read(&path)? else { return Ok(None) };
        let wrong = |_| ClientError::Setup(format!("{} cannot be read: delete it and sign in again", path.display()));
        let found: Credential = serde_json::from_str(&text).map_err(wrong)?;
        Ok(Some(found).filter(|found| found.server == server.as_str()))
    }

    /// Keeps a credential; answers where.
    pub fn keep(&self, server: &Address, credential: &Credential) -> Result<PathBuf, ClientError> {
        let path = self.path(server);
        let text = serde_json::to_string(credential).map_err(|error| ClientError::Setup(error.to_string()))?;
        self.write(&path, &text)?;
        Ok(path)
    }

    /// Forgets the credential for a server; false when there was none.
    pub fn forget(&self, server: &Address) -> Result<bool, ClientError> {
        let path = self.path(server);
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("deleting", &path, &error)),
        }
    }

    /// The id by which servers know this user's program on this machine again; made when there is none.
    pub fn relay(&self) -> Result<String, ClientError> {
        let path = self.folder.join("relay");
        loop {
            if let Some(text) = read(&path)? {
                let id = text.trim().to_owned();
                let is_id = id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
                let wrong = || ClientError::Setup(format!("{} holds no id: delete it", path.display()));
                return is_id.then_some(id).ok_or_else(wrong);
            }
            let made = path.with_extension(format!("new-{}", std::process::id()));
            self.write(&made, &uuid::Uuid::new_v4().simple().to_string())?;
            // Of several that begin at once one names it, the others take its name.
            let linked = std::fs::hard_link(&made, &path);
            std::fs::remove_file(&made).ok();
            match linked {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed("writing", &path, &error)),
                _ => {}
            }
        }
    }

    fn path(&self, server: &Address) -> PathBuf {
        self.folder.join("servers").join(format!("{}.json", server.file_name()))
    }

    /// Writes a file that its owner alone can read; it is whole or not there.
    fn write(&self, path: &Path, text: &str) -> Result<(), ClientError> {
        let part = path.with_extension(format!("part-{}", std::process::id()));
        let write = || {
            let folder = path.parent().unwrap_or(&self.folder);
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            std::fs::remove_file(&part).ok();
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&part, path)
        };
        write().map_err(|error| failed("writing", path, &error))
    }
}

/// Reads a file that nobody else can.
fn read(path: &Path) -> Result<Option<String>, ClientError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("reading", path, &error)),
    };
    let mode = std::fs::metadata(path).map_err(|error| failed("reading", path, &error))?.permissions().mode();
    if mode & 0o077 != 0 {
        let shown = path.display();
        return Err(ClientError::Setup(format!("others can read {shown}: chmod 600 {shown}, or sign in again")));
    }
    Ok(Some(text))
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> ClientError {
    ClientError::Setup(format!("{what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(server: &Address) -> Credential {
        let (token, tenant, name) = ("secret".into(), "acme".into(), "ada@acme.example".into());
        Credential { server: server.to_string(), token, tenant, name, expires_at: None }
    }

    #[test]
    fn a_credential_is_kept_for_its_server_and_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept { folder: folder.path().join("autonomos") };
        let server: Address = "https://a.example".parse().unwrap();
        let other: Address = "https://b.example".parse().unwrap();
        assert_eq!(kept.credential(&server).unwrap(), None);
        let path = kept.keep(&server, &credential(&server)).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(kept.credential(&server).unwrap(), Some(credential(&server)));
        assert_eq!(kept.credential(&other).unwrap(), None);
        assert!(!format!("{:?}", credential(&server)).contains("secret"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(kept.credential(&server).unwrap_err().to_string().contains("chmod 600"));
        assert!(kept.forget(&server).unwrap() && !kept.forget(&server).unwrap());
    }

    #[test]
    fn a_program_keeps_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept { folder: folder.path().join("autonomos") };
        let first = kept.relay().unwrap();
        assert_eq!(kept.relay().unwrap(), first);
        assert_eq!(first.len(), 32);
        std::fs::write(kept.folder.join("relay"), "x").unwrap();
        assert!(kept.relay().unwrap_err().to_string().contains("delete it"));
    }
}
