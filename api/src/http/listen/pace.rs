//! A socket whose other end must take what it is given: who takes nothing for too long is let go.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// The socket.
pub struct Paced<T> {
    socket: T,
    most: Duration,
    /// Runs while something waits to be taken.
    waits: Option<Pin<Box<Sleep>>>,
}

impl<T> Paced<T> {
    /// A socket that fails once nothing of what waits was taken for so long.
    pub fn new(socket: T, most: Duration) -> Self {
        Self { socket, most, waits: None }
    }

    fn watch<V>(&mut self, polled: Poll<io::Result<V>>, cx: &mut Context<'_>) -> Poll<io::Result<V>> {
        if polled.is_ready() {
            self.waits = None;
            return polled;
        }
        let most = self.most;
        let waits = self.waits.get_or_insert_with(|| Box::pin(tokio::time::sleep(most)));
        match waits.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.watch(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, parts);
        self.watch(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_flush(cx);
        self.watch(polled, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_shutdown(cx);
        self.watch(polled, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn who_takes_nothing_is_let_go_and_who_does_is_not() {
        let (socket, mut other) = tokio::io::duplex(8);
        let mut socket = Paced::new(socket, Duration::from_millis(20));
        socket.write_all(b"12345678").await.unwrap();
        let failed = socket.write_all(b"9").await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
        tokio::io::copy(&mut &b"x"[..], &mut other).await.unwrap();

        let (socket, mut other) = tokio::io::duplex(8);
        let mut socket = Paced::new(socket, Duration::from_secs(60));
        let taken = tokio::spawn(async move {
            let mut all = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut other, &mut all).await.unwrap();
            all.len()
        });
        socket.write_all(&[7; 1000]).await.unwrap();
        drop(socket);
        assert_eq!(taken.await.unwrap(), 1000);
    }
}
