//! `demo`: a folder of real files, served; a second drop some seconds later; the counts as they move.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use pipeline::engine::check_free;
use projections::sql::QueryLimits;
use serde_json::json;

use super::{Delivery, DemoFile, generate};
use crate::auth::Role;
use crate::cli::backend::folder::Folder;
use crate::cli::{CasesArgs, CasesCommand, DemoArgs, QueryArgs};
use crate::http::{listen, now};
use crate::output::{Output, Terminal};
use crate::serve::{Server, Signals, config, drain};

const TENANT: &str = "demo";
/// Who signs in to the demo, and nowhere else: the folder is made anew at every start, and served on loopback.
const EMAIL: &str = "demo@autonomos.example";
const PASSWORD: &str = "demo of autonomos";
/// Stands in a folder that the demo made, so that it never clears another.
const MARKER: &str = "made-by-autonomos-demo";
/// How often the counts are looked at, to be shown.
const LOOK: Duration = Duration::from_millis(250);
/// Between the first drop being visible and the second.
const PAUSE: Duration = Duration::from_secs(4);

const QUESTIONS: [(&str, &str); 3] = [
    (
        "what is in the pipeline, from every CRM at once?",
        "select stage, count(*) as deals, sum(amount) as amount from opportunities group by stage order by amount desc limit 8",
    ),
    (
        "which system brought which rows?",
        "select _connection as source, count(*) as accounts, max(updated_at) as latest from accounts group by 1 order by 2 desc",
    ),
    (
        "who works at the accounts with the largest open deals?",
        "select a.name as account, o.amount, c.name as contact, c.email from opportunities o \
         join accounts a on a.account_id = o.account_id join contacts c on c.account_id = a.account_id \
         where o.probability < 100 order by o.amount desc nulls last limit 5",
    ),
];

/// Makes the demo anew in `folder` and serves it until stopped.
pub async fn run(folder: &Path, args: &DemoArgs, json: bool) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let (files, data) = (folder.join("files"), folder.join("data"));
    check_free(&data).context("the demo in this folder is running")?;
    let listener = listen::bind(args.listen, None, false)?;
    clear(folder)?;
    let first = generate(&files, args.seed, Delivery::First)?;
    let config = folder.join("autonomos.yaml");
    std::fs::write(&config, serde_json::to_string_pretty(&serde_json::json!({ "watch": watches(&first) }))?)?;
    let mut out = Terminal::new(json);
    let out: &mut dyn Output = &mut out;
    show_files(folder, &files, &first, out)?;
    let mut settings = config::read(&config, true)?;
    if let Some(file) = &args.config {
        settings.backends = config::read(file, true)?.backends;
    }
    let server = Server::start(&data, listener, settings, QueryLimits::default()).await?;
    tokio::select! {
        shown = show(&server, &files, &first, args, out) => shown?,
        () = signals.next() => return drain(server, &mut signals).await,
    }
    if !args.once {
        signals.next().await;
    }
    drain(server, &mut signals).await
}

fn show_files(folder: &Path, base: &Path, files: &[DemoFile], out: &mut dyn Output) -> anyhow::Result<()> {
    if out.json() {
        let count = files.len();
        return Ok(
            out.value(&json!({ "demo": folder.display().to_string(), "records": records(files), "files": count }))?
        );
    }
    out.line(&format!("demo folder {}: {} records in {} files", folder.display(), records(files), files.len()))?;
    for file in files {
        out.line(&format!("  {:<28} {:>5} records of {}", name(base, &file.path), file.records, file.system))?;
    }
    Ok(())
}

/// Shows the counts moving, has the second delivery come, and answers the questions before and after.
async fn show(
    server: &Server,
    files: &Path,
    first: &[DemoFile],
    args: &DemoArgs,
    out: &mut dyn Output,
) -> anyhow::Result<()> {
    let address = server.address;
    say(out, "serving", &format!("http://{address}/readyz and http://{address}/metrics"))?;
    show_counts(server, records(first), out).await?;
    ask(server, out).await?;
    let seconds = PAUSE.as_secs();
    say(out, "\nsecond drop", &format!("in {seconds} s: updates, deletes, late and repeated records"))?;
    tokio::time::sleep(PAUSE).await;
    let second = generate(files, args.seed, Delivery::Second)?;
    show_counts(server, records(first) + records(&second), out).await?;
    ask(server, out).await?;
    say(out, "\ndrift drop", &format!("in {seconds} s: one system renames fields, one retypes one, one nests two"))?;
    tokio::time::sleep(PAUSE).await;
    let third = generate(files, args.seed, Delivery::Drift)?;
    show_counts(server, records(first) + records(&second) + records(&third), out).await?;
    server.line.catch_up().await?;
    show_cases(server, out).await?;
    let binary = std::env::current_exe().map_or_else(|_| "autonomos".to_owned(), |p| p.display().to_string());
    let data = server.line.folder.display();
    say(out, "\ntry", "in another terminal, while this one serves:")?;
    let token = sign_in(server).await?;
    say(
        out,
        "  API",
        &format!("http://{address}/docs; sign in as {EMAIL} with the password {PASSWORD}", address = server.address),
    )?;
    say(out, "  first", &format!("export TOKEN={token}"))?;
    let bearer = "-H \"authorization: Bearer $TOKEN\"";
    let base = format!("http://{}/api/v1", server.address);
    for line in [
        format!("curl {bearer} '{base}/dcl/views/opportunities/rows?limit=2&order_by=amount&direction=desc'"),
        format!(
            "curl {bearer} -H 'content-type: application/json' -d '{{\"sql\":\"select count(*) from accounts\"}}' {base}/query"
        ),
        format!("curl -N {bearer} '{base}/events/stream?stages=materialized,quarantined&mode=sample'"),
        format!("curl {bearer} '{base}/aam/cases?status=waiting'"),
        format!(
            "curl {bearer} -H 'content-type: application/json' -d '{{\"why\":\"seen\"}}' {base}/aam/cases/CASE/approve"
        ),
    ] {
        say(out, "  curl", &line)?;
    }
    for command in [
        format!("query --data-dir {data} --tenant {TENANT} \"select * from opportunities limit 5\""),
        format!("views list --data-dir {data} --tenant {TENANT}"),
        format!("log cat --data-dir {data} --tenant {TENANT} --topic decisions --limit 5"),
        format!("cases list --data-dir {data} --tenant {TENANT}"),
        format!("cases approve --data-dir {data} --tenant {TENANT} CASE"),
        format!("login --server http://{} --email {EMAIL}", server.address),
    ] {
        say(out, "  try", &format!("{binary} {command}"))?;
    }
    say(out, "or", &format!("change a file under {}: what is new arrives by itself. Ctrl-C stops.", files.display()))
}

/// Shows what drifted: what was repaired by itself, and what waits for a person.
async fn show_cases(server: &Server, out: &mut dyn Output) -> anyhow::Result<()> {
    let of = Folder::tenant(&server.line, TENANT).await?;
    let all = CasesArgs { all: true, limit: 20, ..CasesArgs::default() };
    crate::cli::cases::run(&CasesCommand::List(all), &of, out).await
}

/// Makes the demo's user, for this folder only, and signs in.
async fn sign_in(server: &Server) -> anyhow::Result<String> {
    let tenant = server.line.tenant(&TENANT.parse()?).await?;
    let accounts = &server.doors.accounts;
    let (invitation, _) = accounts.invite(tenant, EMAIL, Role::Admin, "demo", now()).await?;
    Ok(accounts.accept(&invitation, PASSWORD, "demo", now()).await?.token)
}

fn say(out: &mut dyn Output, what: &str, text: &str) -> anyhow::Result<()> {
    if out.json() {
        return Ok(out.value(&json!({ what.trim(): text }))?);
    }
    Ok(out.line(&format!("{what}: {text}"))?)
}

/// Clears a folder that an earlier demo made; refuses any other that holds something.
fn clear(folder: &Path) -> anyhow::Result<()> {
    let marker = folder.join(MARKER);
    if marker.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("clearing {}", folder.display()))?;
    } else if folder.exists() && std::fs::read_dir(folder)?.next().is_some() {
        bail!("{} holds something that the demo did not make: name another folder with --data-dir", folder.display());
    }
    std::fs::create_dir_all(folder)?;
    Ok(std::fs::write(marker, "autonomos demo makes this folder anew at every start\n")?)
}

fn watches(files: &[DemoFile]) -> Vec<serde_json::Value> {
    let watch = |file: &DemoFile| {
        serde_json::json!({ "tenant": TENANT, "connection": file.connection, "system": file.system,
            "stream": file.stream, "files": [format!("files/{}", file.pattern)] })
    };
    files.iter().map(watch).collect()
}

fn records(files: &[DemoFile]) -> u64 {
    files.iter().map(|f| f.records).sum()
}

fn name(base: &Path, path: &Path) -> String {
    path.strip_prefix(base).unwrap_or(path).display().to_string()
}

/// Prints the counters as they move, until `expected` records have their fate.
async fn show_counts(server: &Server, expected: u64, out: &mut dyn Output) -> anyhow::Result<()> {
    let mut last = String::new();
    loop {
        if let Some(failure) = server.line.failure() {
            bail!(failure);
        }
        let (total, _) = server.line.totals().await?;
        let line = format!(
            "  {:>6} in = {} rows + {} deletes + {} quarantined + {} discarded + {} held + {} duplicate",
            total.taken, total.accepted, total.deleted, total.quarantined, total.discarded, total.held, total.duplicate
        );
        if line != last {
            if out.json() {
                out.value(&total)?
            } else {
                out.line(&line)?
            }
            last = line;
        }
        if total.taken >= expected {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn ask(server: &Server, out: &mut dyn Output) -> anyhow::Result<()> {
    server.line.flush_all().await?;
    for (question, sql) in QUESTIONS {
        if out.json() {
            out.value(&json!({ "question": question, "sql": sql }))?;
        } else {
            out.line(&format!("\n{question}\n  {sql}"))?;
        }
        let args = QueryArgs { tenant: None, format: "table".into(), max_rows: None, sql: sql.into() };
        crate::cli::query::run(&args, &Folder::tenant(&server.line, TENANT).await?, out).await?;
    }
    Ok(())
}
