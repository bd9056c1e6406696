//! The folder's master key: made at first start, readable by its owner only. Every other key is derived from it.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use aws_lc_rs::hmac;

use super::secret;

const FILE: &str = "master.key";
const BYTES: usize = 32;

/// The folder's master key.
pub struct MasterKey([u8; BYTES]);

impl MasterKey {
    /// Reads the key of a folder; made when it is not there. A file that others may read, or of another length, is refused.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE);
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(folder, &path)?,
            Err(error) => return Err(error).with_context(|| format!("looking at {}", path.display())),
            Ok(meta) if meta.mode() & 0o077 != 0 => bail!(
                "{} may be read by others (mode {:o}): chmod 600 it, and make a new one if it was read",
                path.display(),
                meta.mode() & 0o777
            ),
            Ok(_) => {}
        }
        let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let key: [u8; BYTES] = bytes.as_slice().try_into().map_err(|_| {
            anyhow::anyhow!("{} has {} bytes, a key has {BYTES}: restore it from a backup", path.display(), bytes.len())
        })?;
        if key.iter().all(|b| *b == key[0]) {
            bail!("{} is no random key: restore it from a backup", path.display());
        }
        Ok(Self(key))
    }

    /// Whether a folder has one.
    pub fn is_there(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    /// The key for one purpose: HMAC-SHA256 of its name under the master key.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let tag = hmac::sign(&key, purpose.as_bytes());
        let mut derived = [0; 32];
        derived.copy_from_slice(&tag.as_ref()[..32]);
        derived
    }
}

/// Writes a new key beside its place and renames it there, so that a crash leaves none or a whole one.
fn make(folder: &Path, path: &Path) -> anyhow::Result<()> {
    let key: [u8; BYTES] = secret::random().map_err(anyhow::Error::msg)?;
    let new = folder.join(format!("{FILE}.new"));
    std::fs::remove_file(&new).ok();
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .with_context(|| format!("making {}", new.display()))?;
    file.write_all(&key)?;
    file.sync_all()?;
    std::fs::rename(&new, path).with_context(|| format!("making {}", path.display()))?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = MasterKey::open(folder.path()).unwrap().derive("tokens");
        assert_eq!(MasterKey::open(folder.path()).unwrap().derive("tokens"), first);
        assert_ne!(MasterKey::open(folder.path()).unwrap().derive("cursors"), first);
        let path = folder.path().join(FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(MasterKey::open(folder.path()).is_err(), "others may read it");
    }

    #[test]
    fn a_short_or_uniform_key_is_refused() {
        for bad in [&[1u8; 32][..], &[1, 2, 3][..], &[][..]] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(FILE);
            std::fs::write(&path, bad).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(MasterKey::open(folder.path()).is_err());
        }
    }
}
