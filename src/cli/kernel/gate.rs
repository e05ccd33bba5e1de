//! What stands in front of the sockets, and lets no frame through that is longer than any message.
//!
//! The library behind the sockets, zeromq 0.7, takes memory for as many bytes as a frame says that it has before these come,
//! and before anybody has shown a key: nine bytes would end the kernel. So its sockets lie in a folder that others cannot
//! enter, and this listens at the ports.

use super::server::{REST, not_bound};
use crate::error::{Error, Result};
use jupyter_protocol::{ConnectionInfo, Transport};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{TcpListener, TcpStream, UnixStream};

/// The bytes of the longest frame.
const LONGEST: u64 = 1 << 28;
/// The bytes of a greeting, and the flag of a frame whose length has eight bytes (ZMTP 3.1, <https://rfc.zeromq.org/spec/37>).
const GREETING: usize = 64;
const IS_LONG: u8 = 2;

/// The ports of a kernel, and where the sockets behind them are.
pub(super) struct Gate {
    listeners: Vec<(TcpListener, PathBuf)>,
    /// What the sockets are to be bound to.
    pub(super) inside: ConnectionInfo,
    /// Removed at the end.
    _folder: TempDir,
}

impl Gate {
    /// Listens at the ports of a connection.
    ///
    /// # Errors
    /// A port that something else listens at; no folder for the sockets.
    pub(super) async fn open(connection: &ConnectionInfo) -> Result<Gate> {
        let own = std::fs::Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("saescope-").permissions(own).tempdir();
        let folder = folder.map_err(Error::file("create", &std::env::temp_dir()))?;
        let prefix = folder.path().join("socket").to_string_lossy().into_owned();
        let inside = ConnectionInfo { transport: Transport::IPC, ip: prefix.clone(), ..connection.clone() };
        let ports = [
            ("heartbeat", connection.hb_port),
            ("iopub", connection.iopub_port),
            ("shell", connection.shell_port),
            ("control", connection.control_port),
            ("stdin", connection.stdin_port),
        ];
        let mut listeners = Vec::new();
        for (socket, port) in ports {
            let listener = TcpListener::bind((connection.ip.as_str(), port)).await;
            let listener = listener.map_err(|e| not_bound(socket, port, e))?;
            listeners.push((listener, PathBuf::from(format!("{prefix}-{port}"))));
        }
        Ok(Gate { listeners, inside, _folder: folder })
    }

    /// Begins to connect whoever comes to the sockets, which must be there.
    pub(super) fn serve(&mut self) {
        for (listener, socket) in self.listeners.drain(..) {
            tokio::spawn(async move {
                loop {
                    let Ok((peer, _)) = listener.accept().await else {
                        tokio::time::sleep(REST).await;
                        continue;
                    };
                    let socket = socket.clone();
                    // A peer that fails has failed for itself alone.
                    tokio::spawn(async move { pass(peer, &socket).await });
                }
            });
        }
    }
}

/// Hands on what a peer and the kernel say to one another, until one of them goes.
async fn pass(peer: TcpStream, socket: &Path) -> io::Result<()> {
    peer.set_nodelay(true)?;
    let kernel = UnixStream::connect(socket).await?;
    let (from_peer, mut to_peer) = peer.into_split();
    let (mut from_kernel, to_kernel) = kernel.into_split();
    tokio::select! {
        ended = checked(BufReader::new(from_peer), BufWriter::new(to_kernel)) => ended,
        ended = tokio::io::copy(&mut from_kernel, &mut to_peer) => ended.map(|_| ()),
    }
}

/// Hands on a greeting and frames, up to the first that is too long.
async fn checked(
    mut from: BufReader<impl tokio::io::AsyncRead + Unpin>,
    mut to: BufWriter<impl tokio::io::AsyncWrite + Unpin>,
) -> io::Result<()> {
    // A peer waits for the beginning of the other's greeting before it goes on with its own.
    let mut greeting = [0; GREETING];
    let mut left = GREETING;
    while left > 0 {
        let read = from.read(&mut greeting[..left]).await?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(&greeting[..read]).await?;
        to.flush().await?;
        left -= read;
    }
    loop {
        let flags = from.read_u8().await?;
        to.write_u8(flags).await?;
        let length = if flags & IS_LONG == 0 {
            let length = from.read_u8().await?;
            to.write_u8(length).await?;
            u64::from(length)
        } else {
            let length = from.read_u64().await?;
            if length > LONGEST {
                return Err(io::ErrorKind::InvalidData.into());
            }
            to.write_u64(length).await?;
            length
        };
        if tokio::io::copy(&mut (&mut from).take(length), &mut to).await? < length {
            return Ok(());
        }
        to.flush().await?;
    }
}
