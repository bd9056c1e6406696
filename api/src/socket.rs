//! The socket in the data folder: commands of other processes, carried out by the one that holds the folder.
//!
//! A request is one line of JSON. The answer is a sequence of frames: a byte that tells the kind, four bytes of length
//! (big-endian), the content. Only the folder's owner can open the socket (mode 0600).

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::cli::Command;
use crate::line::Line;
use crate::output::{Output, Progress};
use crate::serve::stopped;

/// A request longer than this is refused, in bytes.
const REQUEST_BYTES_MAX: u64 = 32 << 20;
/// Longer paths do not fit into a socket's address.
const PATH_BYTES_MAX: usize = 100;
/// When the server stops, whoever is being answered gets so long to take what is on its way.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);
/// A connection that could not be taken (too many open files, say) is tried again after so long.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

const NAME: &str = "autonomos.sock";
/// Nobody else can look into this folder while the socket in it is not yet theirs alone.
const PRIVATE: &str = ".socket";

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
    folder.join(NAME)
}

/// Opens the socket of a folder that this process holds. One that lies there belongs to nobody any more: it is replaced.
pub fn listen(folder: &Path) -> anyhow::Result<UnixListener> {
    let private = folder.join(PRIVATE);
    let open = || {
        if private.exists() {
            fs::remove_dir_all(&private)?;
        }
        DirBuilder::new().mode(0o700).create(&private)?;
        let listener = reach(&private, |path| UnixListener::bind(path))?;
        fs::set_permissions(path(&private), Permissions::from_mode(0o600))?;
        fs::rename(path(&private), path(folder))?;
        fs::remove_dir(&private)?;
        io::Result::Ok(listener)
    };
    open().with_context(|| format!("opening the socket {}", path(folder).display()))
}

/// Calls with a path to the socket in `folder` that fits into an address, however deep the folder lies.
fn reach<T>(folder: &Path, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let path = path(folder);
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        return call(&path);
    }
    let handle = File::open(folder)?;
    call(&Path::new("/proc/self/fd").join(handle.as_raw_fd().to_string()).join(NAME))
}

/// Answers requests until `stop` says true.
pub async fn serve(line: Arc<Line>, listener: UnixListener, stop: watch::Receiver<bool>) {
    let (mut answers, mut ending) = (JoinSet::new(), stop.clone());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (line, stop) = (line.clone(), stop.clone());
                    answers.spawn(async move {
                        if let Err(error) = answer(&line, stream, stop).await {
                            tracing::debug!(%error, "a command's process went away");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the folder's socket refused a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            },
            Some(_) = answers.join_next() => {}
            () = stopped(&mut ending) => break,
        }
    }
    while answers.join_next().await.is_some() {}
}

async fn answer(line: &Line, stream: UnixStream, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let (read, write) = stream.into_split();
    let mut read = BufReader::new(read.take(REQUEST_BYTES_MAX));
    let mut request = String::new();
    tokio::select! {
        read = read.read_line(&mut request) => { read?; }
        () = stopped(&mut stop) => return Ok(()),
    }
    let mut read = read.into_inner().into_inner();
    // Bounded: a slow reader slows its own command down, nobody else's.
    let (frames, receiver) = mpsc::channel(64);
    // A task of its own: the command blocks its thread while it waits for room in the channel.
    let mut sent = tokio::spawn(send(receiver, write, stop.clone()));
    let done = tokio::select! {
        // Where nobody reads any more, the command is dropped.
        sent = &mut sent => return sent?,
        () = left(&mut read) => return Ok(()),
        () = stopped(&mut stop) => Err(anyhow::anyhow!("the server is stopping: run the command again")),
        done = carry_out(&request, line, frames.clone()) => done,
    };
    let last = match done {
        Ok(()) => (DONE, Vec::new()),
        Err(error) => (FAILED, format!("{error:#}").into_bytes()),
    };
    frames.send(last).await.context("the reader is gone")?;
    drop(frames);
    sent.await?
}

/// Writes frames as they come, until there are no more or the server has stopped for a while.
async fn send(
    mut frames: mpsc::Receiver<(u8, Vec<u8>)>,
    mut write: impl AsyncWriteExt + Unpin,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let all = async {
        while let Some((kind, content)) = frames.recv().await {
            let len = u32::try_from(content.len()).unwrap_or(u32::MAX);
            write.write_all(&[&[kind], &len.to_be_bytes()[..], &content].concat()).await?;
        }
        anyhow::Ok(())
    };
    let cut = async {
        stopped(&mut stop).await;
        tokio::time::sleep(LAST_WORDS_MAX).await;
    };
    tokio::select! {
        written = all => written,
        () = cut => bail!("the reader is too slow for a server that stops"),
    }
}

/// Returns when the other side has gone.
async fn left(read: &mut (impl AsyncRead + Unpin)) {
    let mut more = [0; 64];
    while !matches!(read.read(&mut more).await, Ok(0) | Err(_)) {}
}

async fn carry_out(request: &str, line: &Line, frames: mpsc::Sender<(u8, Vec<u8>)>) -> anyhow::Result<()> {
    if !request.ends_with('\n') {
        bail!("the request is longer than {REQUEST_BYTES_MAX} bytes, or was cut off");
    }
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
        // Progress that nobody reads in time is left out: what comes later says more, and nobody waits for a reader.
        _ = self.frames.try_send((PROGRESS, content));
    }
    fn json(&self) -> bool {
        self.json
    }
}

/// Has a command carried out by the process that holds the folder; `None` when nobody answers there.
pub async fn ask(folder: &Path, command: &Command, out: &mut dyn Output) -> anyhow::Result<Option<()>> {
    let mut request = serde_json::to_vec(&Request { json: out.json(), command: command.clone() })?;
    request.push(b'\n');
    if request.len() as u64 > REQUEST_BYTES_MAX {
        bail!("the command has {} bytes, a server takes {REQUEST_BYTES_MAX}: name fewer files", request.len());
    }
    let Some(mut stream) = connect(folder)? else { return Ok(None) };
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

fn connect(folder: &Path) -> anyhow::Result<Option<UnixStream>> {
    use std::os::unix::net::UnixStream as Stream;
    let shown = path(folder);
    match reach(folder, |path| Stream::connect(path)) {
        Ok(stream) => {
            stream.set_nonblocking(true)?;
            Ok(Some(UnixStream::from_std(stream)?))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            bail!("the socket {} is another user's: only who runs the server may ask it", shown.display())
        }
        Err(error) => Err(error).with_context(|| format!("asking through {}", shown.display())),
    }
}
