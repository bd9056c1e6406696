//! `tenant`: the first admin of a tenant that the command line made; a tenant taken along, or deleted.

use anyhow::ensure;
use schemas::TenantName;
use serde_json::json;
use tokio::sync::mpsc;

use super::{DeleteArgs, InviteArgs, TenantCommand};
use crate::auth::master_key::MasterKey;
use crate::auth::{Accounts, Role};
use crate::http::now;
use crate::http::time;
use crate::line::Line;
use crate::output::Output;

/// Parts of an export that wait to be written.
const PARTS_WAITING: usize = 4;

/// Carries out a `tenant` command.
pub async fn run(command: TenantCommand, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        TenantCommand::Invite(args) => invite(args, line, out).await,
        TenantCommand::Export(args) => export(&args.tenant.parse()?, line, out).await,
        TenantCommand::Delete(args) => delete(args, line, out).await,
    }
}

async fn invite(args: InviteArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let tenant = line.tenant(&args.tenant.parse()?).await?;
    let key = MasterKey::open(&line.folder)?.derive("session tokens");
    let accounts = Accounts::new(line.store.clone(), &key)?;
    let (token, until) = accounts.invite(tenant, &args.email, Role::Admin, "operator", now()).await?;
    let expires_at = time::of_seconds(until);
    if out.json() {
        return Ok(out.value(&json!({ "token": token, "expires_at": expires_at }))?);
    }
    out.line(&format!("hand this to {}; it is used once, until {expires_at}:", args.email))?;
    out.line(&format!("  {token}"))?;
    out.line("set a password and sign in with it:")?;
    Ok(out.line(&format!(
        "  curl -d '{{\"token\":\"{token}\",\"password\":\"…\"}}' -H 'content-type: application/json' \\\n    \
         http://127.0.0.1:7400/api/v1/auth/accept"
    ))?)
}

/// The export is the command's answer; whoever asked puts it where it belongs.
async fn export(name: &TenantName, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let tenant = line.tenant(name).await?;
    let (parts, mut receiver) = mpsc::channel(PARTS_WAITING);
    // Moved in, so that an export to somebody who cannot be written to ends.
    let write = async move {
        while let Some(part) = receiver.recv().await {
            let part: bytes::Bytes = part?;
            out.write(&part)?;
        }
        anyhow::Ok(())
    };
    let (exported, written) = tokio::join!(line.export_to(tenant, parts), write);
    written?;
    exported
}

async fn delete(args: DeleteArgs, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let name: TenantName = args.tenant.parse()?;
    let tenant = line.tenant(&name).await?;
    ensure!(args.yes, "this deletes everything of {name}, for ever: export it first, then run it again with --yes");
    line.delete_tenant(tenant, &name).await?;
    if out.json() {
        return Ok(out.value(&json!({ "deleted": name }))?);
    }
    Ok(out.line(&format!("{name} is deleted; its name is free"))?)
}
