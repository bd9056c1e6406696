//! The folders that the operator declared for tenants: files of connections made through the API lie there or nowhere.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use connectors::file::Bounds;
use schemas::{TenantId, TenantName};

use crate::line::Line;

/// A folder that the operator declared for a tenant: `TENANT=FOLDER`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredRoot {
    /// The tenant's name.
    pub tenant: String,
    /// The folder.
    pub folder: PathBuf,
}

impl std::str::FromStr for DeclaredRoot {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').filter(|(tenant, folder)| !tenant.is_empty() && !folder.is_empty());
        let (tenant, folder) = parts.ok_or("write it as TENANT=FOLDER")?;
        Ok(Self { tenant: tenant.to_owned(), folder: PathBuf::from(folder) })
    }
}

/// The declared folders by tenant. They are held by the tenants' ids: who takes over a name gets no folder with it.
#[derive(Debug, Default)]
pub struct Roots {
    folders: HashMap<TenantId, Vec<PathBuf>>,
    data: PathBuf,
}

impl Roots {
    /// Finds folders and tenants. A tenant is made when its name is new, so that nobody else can register it.
    pub async fn resolve(line: &Line, declared: &[DeclaredRoot]) -> anyhow::Result<Self> {
        let data = std::fs::canonicalize(&line.folder).context("looking for the data folder")?;
        let mut folders: HashMap<TenantId, Vec<PathBuf>> = HashMap::new();
        for DeclaredRoot { tenant, folder } in declared {
            let declared = || format!("the folder {} declared for the files of {tenant}", folder.display());
            let real = std::fs::canonicalize(folder).with_context(declared)?;
            if !real.is_dir() {
                bail!("{} is no folder", declared());
            }
            if real.starts_with(&data) {
                bail!("{} lies in the data folder: declare another", declared());
            }
            let name: TenantName = tenant.parse().with_context(declared)?;
            if line.definitions().find_tenant(&name).await?.is_none() {
                tracing::info!(tenant, "made the tenant; autonomos tenant invite makes its first admin");
            }
            let id = line.ensure_tenant(&name).await?;
            folders.entry(id).or_default().push(real);
        }
        Ok(Self { folders, data })
    }

    /// Where files of a tenant may lie; nothing when the operator declared no folder.
    pub fn bounds(&self, tenant: TenantId) -> Option<Bounds> {
        let roots = self.folders.get(&tenant)?.clone();
        Some(Bounds { roots, except: vec![self.data.clone()] })
    }
}

/// The folder from which relative files count: the only one.
pub fn base(bounds: &Bounds) -> Option<&Path> {
    match bounds.roots.as_slice() {
        [only] => Some(only),
        _ => None,
    }
}

/// A message without the names of the folders above those of the tenant.
pub fn hidden(message: &str, bounds: &Bounds) -> String {
    bounds.roots.iter().fold(message.to_owned(), |message, root| {
        let root = root.display().to_string();
        message.replace(&format!("{root}/"), "").replace(&root, ".")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_names_tenant_and_folder() {
        let declared: DeclaredRoot = "acme=/srv/acme=1".parse().unwrap();
        assert_eq!((declared.tenant.as_str(), declared.folder), ("acme", PathBuf::from("/srv/acme=1")));
        for bad in ["acme", "=x", "acme=", ""] {
            assert!(bad.parse::<DeclaredRoot>().is_err(), "{bad}");
        }
    }

    #[test]
    fn messages_name_files_as_the_tenant_knows_them() {
        let bounds = Bounds { roots: vec!["/srv/acme".into()], except: Vec::new() };
        assert_eq!(hidden("/srv/acme/a.csv: gone; /srv/acme", &bounds), "a.csv: gone; .");
    }
}
