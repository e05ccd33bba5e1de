//! The connection file: where to listen, and the key that signs messages. Whoever has the key can run code as this
//! user, so a file that others wrote or can write is refused, and so is an address that other machines can reach.
//! The sockets there share a pause after an error, and an error for a port that cannot be opened.

use super::super::terminal::to_stderr;
use crate::error::{Error, Result};
use jupyter_protocol::{ConnectionInfo, Transport};
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

/// The pause of a socket after an error, so that a faulty peer neither stops the socket nor keeps it busy.
pub(super) const REST: Duration = Duration::from_millis(10);

/// Reads and checks a connection file.
pub(super) fn read(path: &Path) -> Result<ConnectionInfo> {
    // The open file is checked, so that it cannot be replaced before it is read.
    let file = std::fs::File::open(path).map_err(Error::file("open", path))?;
    check_owner(&file, path)?;
    let info: ConnectionInfo = serde_json::from_reader(std::io::BufReader::new(file)).map_err(|e| {
        Error::malformed(path, format!("not a connection file: {e}"))
            .with_hint("Jupyter writes this file and starts the kernel with it: `jupyter lab`")
    })?;
    check(&info, path)?;
    Ok(info)
}

fn check(info: &ConnectionInfo, path: &Path) -> Result<()> {
    let refused = |message: String, hint: &str| Err(Error::malformed(path, message).with_hint(hint));
    if info.transport == Transport::IPC && !cfg!(unix) {
        return refused(
            "expected the transport \"tcp\", got \"ipc\", which this system does not have".to_owned(),
            "start Jupyter without `--transport`",
        );
    }
    if info.transport == Transport::TCP && addresses(&info.ip).is_none() {
        let message = format!("expected a loopback address such as 127.0.0.1, got `{}`", info.ip);
        return refused(
            message,
            "only this machine can reach the kernel; from another machine, use an ssh tunnel",
        );
    }
    if info.signature_scheme != "hmac-sha256" {
        let message = format!("expected the signature scheme hmac-sha256, got `{}`", info.signature_scheme);
        return refused(message, "leave Jupyter's `Session.signature_scheme` as it is");
    }
    if info.key.is_empty() {
        let message = "expected a key, got an empty one: any user of this machine could run code".to_owned();
        return refused(message, "leave Jupyter's `Session.key` as it is");
    }
    Ok(())
}

/// The loopback addresses that `ip` names; `None` if other machines may reach it. `localhost` is not looked up: by
/// RFC 6761 it is the loopback address, of which there are two.
pub(super) fn addresses(ip: &str) -> Option<Vec<IpAddr>> {
    let name = ip.trim_end_matches('.').to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let bare = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
    let ip = bare.parse::<IpAddr>().ok().filter(IpAddr::is_loopback)?;
    Some(vec![ip])
}

/// The error for a port or socket that cannot be opened.
pub(super) fn not_bound(socket: &str, place: impl Display, error: impl ToString) -> Error {
    Error::failed(format!("listen on {place} ({socket} socket)"))(error.to_string())
}

/// Fails if another user owns the file, or if others can write it. A file that others can only read is made private,
/// since some front ends leave its mode to the umask. JUPYTER_ALLOW_INSECURE_WRITES, Jupyter's own variable for file
/// systems without permissions, allows any mode.
#[cfg(unix)]
fn check_owner(file: &std::fs::File, path: &Path) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let metadata = file.metadata().map_err(Error::file("read", path))?;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        let message =
            format!("expected a file owned by this user, got one owned by user id {}", metadata.uid());
        return Err(Error::malformed(path, message)
            .with_hint("its owner may know the key, and could run code as you"));
    }
    let insecure = std::env::var("JUPYTER_ALLOW_INSECURE_WRITES");
    let is_allowed = insecure.is_ok_and(|value| ["1", "true"].contains(&value.to_lowercase().as_str()));
    let mode = metadata.mode();
    if mode & 0o077 == 0 || is_allowed {
        return Ok(());
    }
    let made_private = mode & 0o022 == 0
        && file.set_permissions(std::fs::Permissions::from_mode(0o600)).is_ok()
        && file.metadata().is_ok_and(|metadata| metadata.mode() & 0o077 == 0);
    if made_private {
        to_stderr(&format!("warning: others could read `{}`; it is private now", path.display()));
        return Ok(());
    }
    let message =
        format!("expected a file that only its owner can read and write, got mode {:04o}", mode & 0o7777);
    let hint = "whoever can write it can choose the key, and run code as you; on a file system without permissions set \
                JUPYTER_ALLOW_INSECURE_WRITES=1, as for Jupyter itself";
    Err(Error::malformed(path, message).with_hint(hint))
}

#[cfg(not(unix))]
fn check_owner(_file: &std::fs::File, _path: &Path) -> Result<()> {
    Ok(())
}
