//! A proxy between the ports and the sockets, which refuses frames that are longer than any message.
//!
//! The library of the sockets, zeromq 0.7, allocates the length that a frame claims before its bytes arrive and before
//! any signature is checked: nine bytes would end the kernel. So its sockets are in a folder that others cannot enter,
//! and the gate listens on the ports.

use super::connection::{REST, addresses, not_bound};
use crate::error::{Error, Result};
use crate::files;
use jupyter_protocol::{ConnectionInfo, Transport};
use std::fs::{File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{TcpListener, UnixListener, UnixStream};

/// The maximum length of a frame in bytes.
const LONGEST: u64 = 1 << 28;
/// Bytes of a greeting, and the flag of an eight-byte frame length (ZMTP 3.1, <https://rfc.zeromq.org/spec/37>).
const GREETING: usize = 64;
const IS_LONG: u8 = 2;
/// The name prefix of a kernel's socket folder, and the file in it that is locked while the kernel runs.
const FOLDER: &str = "saescope-";
const LOCK: &str = "lock";

/// The listeners of a kernel, and the inner sockets that they forward to.
pub(super) struct Proxy {
    doors: Vec<(Listener, PathBuf)>,
    /// The addresses of the inner sockets.
    pub(super) inside: ConnectionInfo,
    /// Removed on drop.
    _names: Vec<SocketName>,
    _folder: TempDir,
    _lock: File,
}

/// A listener that peers connect to.
enum Listener {
    Tcp(TcpListener),
    Ipc(UnixListener),
}

impl Proxy {
    /// Listens on the ports of a connection, or on its sockets in the file system.
    ///
    /// # Errors
    /// A port or socket is in use; the folder for the inner sockets cannot be created.
    pub(super) async fn open(connection: &ConnectionInfo) -> Result<Proxy> {
        remove_orphans(&std::env::temp_dir());
        let (folder, lock) = own_folder()?;
        let prefix = folder.path().join("socket").to_string_lossy().into_owned();
        let inside = ConnectionInfo { transport: Transport::IPC, ip: prefix.clone(), ..connection.clone() };
        let ports = [
            ("heartbeat", connection.hb_port),
            ("iopub", connection.iopub_port),
            ("shell", connection.shell_port),
            ("control", connection.control_port),
            ("stdin", connection.stdin_port),
        ];
        let (mut doors, mut names) = (Vec::new(), Vec::new());
        for (socket, port) in ports {
            let inner = PathBuf::from(format!("{prefix}-{port}"));
            if connection.transport == Transport::IPC {
                let name = PathBuf::from(format!("{}-{port}", connection.ip));
                let place = format!("`{}`", name.display());
                let (listener, name) = bind_ipc(name).map_err(|e| not_bound(socket, place, e))?;
                doors.push((Listener::Ipc(listener), inner));
                names.push(name);
                continue;
            }
            // One of the two addresses of `localhost` may be missing on this machine.
            let mut bound = Err(io::ErrorKind::AddrNotAvailable.into());
            for ip in addresses(&connection.ip).unwrap_or_default() {
                let listener = TcpListener::bind((ip, port)).await;
                match (listener, &bound) {
                    (Ok(listener), _) => {
                        doors.push((Listener::Tcp(listener), inner.clone()));
                        bound = Ok(());
                    }
                    (Err(error), Err(_)) => bound = Err(error),
                    (Err(error), Ok(())) if error.kind() == io::ErrorKind::AddrInUse => bound = Err(error),
                    (Err(_), Ok(())) => {}
                }
            }
            bound.map_err(|e| not_bound(socket, format_args!("port {port}"), e))?;
        }
        Ok(Proxy { doors, inside, _names: names, _folder: folder, _lock: lock })
    }

    /// Starts to accept peers. The inner sockets must exist.
    pub(super) fn serve(&mut self) {
        for (door, socket) in self.doors.drain(..) {
            tokio::spawn(async move {
                loop {
                    // An error of one peer does not affect the others.
                    let socket = socket.clone();
                    let came = match &door {
                        Listener::Tcp(listener) => listener.accept().await.map(|(peer, _)| {
                            let _ = peer.set_nodelay(true);
                            let (from, to) = peer.into_split();
                            tokio::spawn(async move { pass(from, to, &socket).await });
                        }),
                        Listener::Ipc(listener) => listener.accept().await.map(|(peer, _)| {
                            let (from, to) = peer.into_split();
                            tokio::spawn(async move { pass(from, to, &socket).await });
                        }),
                    };
                    if came.is_err() {
                        tokio::time::sleep(REST).await;
                    }
                }
            });
        }
    }
}

/// Creates a folder that others cannot enter, and its lock, which is released when the kernel ends for any reason.
fn own_folder() -> Result<(TempDir, File)> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix(FOLDER).permissions(Permissions::from_mode(0o700)).tempdir();
        let folder = folder.map_err(Error::file("create", &std::env::temp_dir()))?;
        let path = folder.path().join(LOCK);
        let lock = File::create(&path).map_err(Error::file("create", &path))?;
        match lock.try_lock() {
            // Another kernel, looking for orphans, was faster: it has the lock, or has removed the folder.
            Err(TryLockError::WouldBlock) => {}
            Ok(()) if !path.exists() => {}
            // Without file locks no other kernel removes the folder as an orphan.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok((folder, lock)),
        }
    }
    let action = format!("create a folder in `{}`", std::env::temp_dir().display());
    Err(Error::failed(action)("another program removes it"))
}

/// Removes the folders of killed kernels: those that are not locked.
fn remove_orphans(folder: &Path) {
    let own = rustix::process::geteuid().as_raw();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(FOLDER) {
            continue;
        }
        // A link is not followed.
        if !entry.metadata().is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == own) {
            continue;
        }
        // The lock is held until the folder is gone, so that no kernel takes it in between.
        if let Ok(lock) = File::options().write(true).open(entry.path().join(LOCK))
            && lock.try_lock().is_ok()
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The path of a socket in the file system, removed on drop.
struct SocketName(PathBuf);

impl Drop for SocketName {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Listens on a socket of this name, which only this user can connect to. Replaces a socket that no program listens on
/// any more.
fn bind_ipc(name: PathBuf) -> io::Result<(UnixListener, SocketName)> {
    if let Ok(there) = std::fs::symlink_metadata(&name) {
        if !there.file_type().is_socket() {
            return Err(io::Error::other("something that is not a socket has this name"));
        }
        if std::os::unix::net::UnixStream::connect(&name).is_ok() {
            return Err(io::Error::other("another program listens on it"));
        }
    }
    // The socket gets its name after its mode excludes other users.
    let folder = files::folder_of(&name);
    let mut builder = tempfile::Builder::new();
    let private = builder.prefix(".s").rand_bytes(4).permissions(Permissions::from_mode(0o700));
    let private = private.tempdir_in(folder).map_err(|e| io::Error::from(e.kind()))?;
    let path = private.path().join("s");
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    // A name that is too long for an address is accepted here, but peers could not connect to it.
    std::fs::rename(&path, &name)?;
    let name = SocketName(name);
    std::os::unix::net::SocketAddr::from_pathname(&name.0)?;
    Ok((listener, name))
}

/// Forwards bytes between a peer and the kernel until one of them disconnects.
async fn pass(
    from_peer: impl AsyncRead + Unpin,
    mut to_peer: impl AsyncWrite + Unpin,
    socket: &Path,
) -> io::Result<()> {
    let kernel = UnixStream::connect(socket).await?;
    let (mut from_kernel, to_kernel) = kernel.into_split();
    tokio::select! {
        ended = checked(BufReader::new(from_peer), BufWriter::new(to_kernel)) => ended,
        ended = tokio::io::copy(&mut from_kernel, &mut to_peer) => ended.map(|_| ()),
    }
}

/// Forwards a greeting and frames, up to the first frame that is too long.
async fn checked(
    mut from: BufReader<impl AsyncRead + Unpin>,
    mut to: BufWriter<impl AsyncWrite + Unpin>,
) -> io::Result<()> {
    // A peer waits for the start of the other's greeting before it sends the rest of its own.
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
