//! `tenant`: the first admin of a tenant that the command line made.

use serde_json::json;

use super::TenantCommand;
use crate::auth::master_key::MasterKey;
use crate::auth::{Accounts, Role};
use crate::http::now;
use crate::http::routes::time;
use crate::line::Line;
use crate::output::Output;

/// Carries out a `tenant` command.
pub async fn run(command: TenantCommand, line: &Line, out: &mut dyn Output) -> anyhow::Result<()> {
    let TenantCommand::Invite(args) = command;
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
