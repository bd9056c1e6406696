//! `tenant`: an admin of a tenant invited; a tenant taken along, or deleted.

use anyhow::ensure;
use serde_json::json;

use super::TenantCommand;
use super::backend::Backend;
use crate::http::routes::users::OneUse;
use crate::output::Output;

/// Carries out a `tenant` command.
pub async fn run(command: &TenantCommand, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    match command {
        TenantCommand::Invite(args) => invite(&args.email, of, out).await,
        // The export is the command's answer; whoever asked puts it where it belongs.
        TenantCommand::Export(_) => of.export(out).await,
        TenantCommand::Delete(args) => delete(args.yes, of, out).await,
    }
}

async fn invite(email: &str, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let OneUse { token, expires_at } = of.invite(email).await?;
    if out.json() {
        return Ok(out.value(&json!({ "token": token, "expires_at": expires_at }))?);
    }
    out.line(&format!("hand this to {email}; it is used once, until {expires_at}:"))?;
    out.line(&format!("  {token}"))?;
    out.line("set a password and sign in with it:")?;
    Ok(out.line(&format!(
        "  curl -d '{{\"token\":\"{token}\",\"password\":\"…\"}}' -H 'content-type: application/json' \\\n    \
         {}/api/v1/auth/accept",
        of.address()
    ))?)
}

async fn delete(is_sure: bool, of: &dyn Backend, out: &mut dyn Output) -> anyhow::Result<()> {
    let name = of.tenant().to_owned();
    ensure!(is_sure, "this deletes everything of {name}, for ever: export it first, then run it again with --yes");
    of.delete().await?;
    if out.json() {
        return Ok(out.value(&json!({ "deleted": name }))?);
    }
    Ok(out.line(&format!("{name} is deleted; its name is free"))?)
}
