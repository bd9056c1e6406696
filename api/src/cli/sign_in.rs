//! `login`, `logout`, `whoami`: who asks a server.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, bail};
use serde_json::json;

use super::{LoginArgs, ServerArgs};
use crate::client::{Address, Ask, Client, ClientError, Credential};
use crate::http::routes::account::{Login, Me, SessionBegun};
use crate::http::text::Text;
use crate::output::Output;

/// Lines of standard input that hold a secret are not longer, in bytes.
const SECRET_BYTES_MAX: u64 = 4_096;

/// Signs in, and keeps what the server gives.
pub async fn login(args: &LoginArgs, server: &ServerArgs, out: &mut dyn Output) -> anyhow::Result<()> {
    let address = address(server)?;
    let client = Client::anybody(server, address)?;
    let (credential, role) = match args.api_key_stdin {
        true => {
            let key = secret("API key: ")?;
            let (credential, me) = client.introduced(&key).await?;
            (credential, me.role)
        }
        false => {
            let email = match &args.email {
                Some(email) => email.clone(),
                None => asked("address: ")?,
            };
            let password = secret("password: ")?;
            let login =
                Login { tenant: args.tenant.clone().map(Text::from), email: email.into(), password: password.into() };
            let begun = client.json::<SessionBegun>(Ask::post(&["auth", "login"], &login).once()).await;
            let SessionBegun { access_token, expires_at, user, .. } = begun.map_err(which_tenant)?;
            let (server, token, expires_at) = (address.to_string(), access_token, Some(expires_at));
            let Me { tenant, email: name, role, .. } = user;
            (Credential { server, token, tenant, name, expires_at }, role)
        }
    };
    client.kept().keep(address, &credential)?;
    let Credential { tenant, name, expires_at, .. } = credential;
    if out.json() {
        return Ok(out.value(&json!({
            "server": address.as_str(), "tenant": tenant, "name": name, "role": role.to_string(), "expires_at": expires_at,
        }))?);
    }
    let until = expires_at.map_or_else(String::new, |at| format!(", until {at}"));
    Ok(out.line(&format!("signed in to {address} as {name}, {role} of {tenant}{until}"))?)
}

/// Signs out: the session ends, and what was kept is forgotten.
pub async fn logout(server: &ServerArgs, out: &mut dyn Output) -> anyhow::Result<()> {
    let address = address(server)?;
    let client = Client::anybody(server, address)?;
    let Some(credential) = client.kept().credential(address)? else {
        bail!("nobody is signed in to {address}");
    };
    client.kept().forget(address)?;
    // A session has a time to end, an API key is its maker's to revoke.
    let until = credential.expires_at.clone();
    if let Some(until) = until {
        let ended = client.with(credential).send(&Ask::delete_session()).await;
        match ended {
            Ok(_) | Err(ClientError::Unknown { .. }) => {}
            Err(error) => {
                let what =
                    format!("it is forgotten here, but the server was not told: the session counts until {until}");
                return Err(anyhow::Error::from(error).context(what));
            }
        }
    }
    if out.json() {
        return Ok(out.value(&json!({ "server": address.as_str(), "signed_out": true }))?);
    }
    Ok(out.line(&format!("signed out of {address}"))?)
}

/// Shows who is signed in, as the server sees it.
pub async fn whoami(server: &ServerArgs, out: &mut dyn Output) -> anyhow::Result<()> {
    let client = Client::signed_in(server, address(server)?).await?;
    let me: Me = client.json(Ask::get(&["auth", "me"])).await?;
    let expires_at = client.credential().and_then(|credential| credential.expires_at.clone());
    let (address, role) = (client.address(), me.role.to_string());
    if out.json() {
        return Ok(out.value(&json!({
            "server": address.as_str(), "tenant": me.tenant, "name": me.email, "role": role, "expires_at": expires_at,
        }))?);
    }
    let until = expires_at.map_or_else(String::new, |at| format!(", until {at}"));
    Ok(out.line(&format!("{}, {role} of {} at {address}{until}", me.email, me.tenant))?)
}

fn address(server: &ServerArgs) -> anyhow::Result<&Address> {
    server.server.as_ref().context("name the server with --server, or in the variable AUTONOMOS_SERVER")
}

fn which_tenant(error: ClientError) -> anyhow::Error {
    match error.code() {
        Some("tenant_needed") => anyhow::Error::from(error).context("say which with --tenant"),
        _ => error.into(),
    }
}

/// A line that somebody types, or that comes on standard input.
fn asked(what: &str) -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        // Not on standard output, which is the answer's.
        eprint!("{what}");
        std::io::stderr().flush()?;
    }
    line(what)
}

/// The same, not shown.
fn secret(what: &str) -> anyhow::Result<String> {
    match std::io::stdin().is_terminal() {
        true => rpassword::prompt_password(what).context("reading from the terminal"),
        false => line(what),
    }
}

fn line(what: &str) -> anyhow::Result<String> {
    let what = what.trim_end_matches([':', ' ']);
    let mut bytes = Vec::new();
    let mut limited = std::io::Read::take(std::io::stdin().lock(), SECRET_BYTES_MAX);
    limited.read_until(b'\n', &mut bytes).with_context(|| format!("reading the {what} from standard input"))?;
    let text = String::from_utf8(bytes).with_context(|| format!("the {what} on standard input is no text"))?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        bail!("there is no {what} on standard input");
    }
    Ok(text.to_owned())
}
