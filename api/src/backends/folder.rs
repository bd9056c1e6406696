//! A data folder belongs to one log and one store: what it has of its own is of no use beside others.

use anyhow::{Context, bail};
use pipeline::{EmbeddedStore, Expect, Log, Store, Table};
use schemas::{TenantId, Topic};

use super::{Backends, LogBackend};

const KEY: &str = "folder";

/// Refuses a folder that was made for other backends; notes what a new one is made for. `log` and `store` are its own.
pub(super) async fn claim(backends: &Backends, log: &dyn Log, store: &EmbeddedStore) -> anyhow::Result<()> {
    let wanted = backends.told();
    let row = store.get(TenantId::SYSTEM, Table::Leases, KEY).await?;
    let made_for = row.map(|row| String::from_utf8_lossy(&row.value).into_owned());
    match made_for {
        Some(made_for) if made_for == wanted => Ok(()),
        Some(made_for) => bail!(
            "the data folder was made for other servers ({made_for}) than the configuration says ({wanted}): name the \
             configuration that it was made with, or another folder with --data-dir"
        ),
        None if matches!(backends.log, LogBackend::Embedded) => Ok(()),
        None => {
            for topic in Topic::ALL {
                for partition in 0..log.partitions(topic) {
                    if log.end(topic, partition).await? > 0 {
                        bail!(
                            "the data folder has records of its own, and the configuration says {wanted}: name an empty \
                             folder with --data-dir"
                        );
                    }
                }
            }
            let value = wanted.into_bytes().into();
            store
                .put(TenantId::SYSTEM, Table::Leases, KEY, value, Expect::Absent)
                .await
                .context("noting the backends")?;
            Ok(())
        }
    }
}
