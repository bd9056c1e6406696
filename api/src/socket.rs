//! The socket in the data folder: commands of other processes, carried out by the one that holds the folder.
//!
//! A request is one line of JSON. The answer is a sequence of frames: a byte that tells the kind, four bytes of length
//! (big-endian), the content. Only the folder's owner can open the socket (mode 0600).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};

use crate::cli::Command;
use crate::line::Line;
use crate::output::{Output, Progress};

/// A request longer than this is refused, in bytes.
const REQUEST_BYTES_MAX: u64 = 32 << 20;

#[derive(Serialize, Deserialize)]
struct Request {
    json: bool,
    command: Command,
}

const ANSWER: u8 = 1;
const PROGRESS: u8 = 2;
const DONE: u8 = 3;
const FAILED: u8 = 4;

/// Where the socket of a folder lies.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("autonomos.sock")
}

/// Opens the socket of a folder that this process holds.
pub fn listen(folder: &Path) -> anyhow::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let path = path(folder);
    // The lock on the folder is ours, so a socket that lies here belongs to nobody any more.
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("removing the old socket {}", path.display())),
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("opening the socket {}", path.display()))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers requests until `stop` says true.
pub async fn serve(line: Arc<Line>, listener: UnixListener, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let line = line.clone();
                    tokio::spawn(async move {
                        if let Err(error) = answer(&line, stream).await {
                            tracing::debug!(%error, "a command's process went away");
                        }
                    });
                }
                Err(error) => tracing::warn!(%error, "the folder's socket refused a connection"),
            },
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

async fn answer(line: &Line, stream: UnixStream) -> anyhow::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut request = String::new();
    BufReader::new(read.take(REQUEST_BYTES_MAX)).read_line(&mut request).await?;
    // Bounded: a slow reader slows its own command down, nobody else's.
    let (frames, mut receiver) = mpsc::channel::<(u8, Vec<u8>)>(64);
    // A task of its own: the command blocks its thread while it waits for room in the channel.
    let mut send = tokio::spawn(async move {
        while let Some((kind, content)) = receiver.recv().await {
            let len = u32::try_from(content.len()).unwrap_or(u32::MAX);
            write.write_all(&[&[kind], &len.to_be_bytes()[..], &content].concat()).await?;
        }
        anyhow::Ok(())
    });
    let work = async move {
        let last = match carry_out(&request, line, frames.clone()).await {
            Ok(()) => (DONE, Vec::new()),
            Err(error) => (FAILED, format!("{error:#}").into_bytes()),
        };
        frames.send(last).await.context("the reader is gone")
    };
    tokio::select! {
        // When the other side goes away the sending fails, and the command is dropped with it.
        sent = &mut send => return sent?,
        done = work => done?,
    }
    send.await?
}

async fn carry_out(request: &str, line: &Line, frames: mpsc::Sender<(u8, Vec<u8>)>) -> anyhow::Result<()> {
    let request: Request = serde_json::from_str(request)
        .context("the request cannot be read: is the command of the same version as the server?")?;
    let mut out = Frames { frames, json: request.json };
    crate::cli::run(request.command, line, &mut out).await
}

struct Frames {
    frames: mpsc::Sender<(u8, Vec<u8>)>,
    json: bool,
}

impl Output for Frames {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let frames = self.frames.clone();
        let content = bytes.to_vec();
        tokio::task::block_in_place(|| frames.blocking_send((ANSWER, content)))
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe))
    }
    fn progress(&mut self, progress: &Progress) {
        let Ok(content) = serde_json::to_vec(progress) else { return };
        // Progress that nobody reads in time is left out, but what says that records are durable is sent when asked for.
        if self.json {
            _ = tokio::task::block_in_place(|| self.frames.blocking_send((PROGRESS, content)));
        } else {
            _ = self.frames.try_send((PROGRESS, content));
        }
    }
    fn json(&self) -> bool {
        self.json
    }
}

/// Has a command carried out by the process that holds the folder; `None` when nobody answers there.
pub async fn ask(folder: &Path, command: &Command, out: &mut dyn Output) -> anyhow::Result<Option<()>> {
    let Ok(mut stream) = UnixStream::connect(path(folder)).await else { return Ok(None) };
    let mut request = serde_json::to_vec(&Request { json: out.json(), command: command.clone() })?;
    request.push(b'\n');
    stream.write_all(&request).await?;
    let mut stream = BufReader::new(stream);
    loop {
        let kind = stream.read_u8().await.context("the server went away before the command was done")?;
        let len = stream.read_u32().await?;
        let mut content = vec![0; len as usize];
        stream.read_exact(&mut content).await?;
        match kind {
            ANSWER => out.write(&content)?,
            PROGRESS => out.progress(&serde_json::from_slice(&content)?),
            DONE => return Ok(Some(())),
            FAILED => bail!(String::from_utf8_lossy(&content).into_owned()),
            other => bail!("the server sent a frame of kind {other}: use the same version for both"),
        }
    }
}
