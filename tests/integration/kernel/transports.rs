//! Where a kernel listens: IP addresses, Unix sockets, and the remains of killed kernels.

use super::frontend::{Frontend, connection, connection_file};
use jupyter_protocol::{ConnectionInfo, ShutdownRequest, Transport};
use saescope::Progress;
use std::time::{Duration, Instant};

#[test]
fn names_of_localhost_are_accepted() {
    for ip in ["localhost", "LOCALHOST.", "kernel.localhost"] {
        let info = ConnectionInfo { ip: ip.to_owned(), ..connection() };
        let path = tempfile::tempdir().unwrap();
        let path = connection_file(path.path(), &info);
        // Clients differ in how they resolve the name, so this one is given an address.
        let mut frontend = Frontend::start_by(&path, ConnectionInfo { ip: "127.0.0.1".to_owned(), ..info });
        frontend.run("1 + 1");
        frontend.beats();
    }
    let mut frontend = Frontend::start_at(ConnectionInfo { ip: "localhost".to_owned(), ..connection() });
    frontend.run("1 + 1");
}

/// Unix sockets, whose paths begin with the `ip` of the connection file.
#[cfg(unix)]
#[test]
fn kernels_listen_on_unix_sockets_too() {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("kernel-ipc");
    let info = ConnectionInfo {
        transport: Transport::IPC,
        ip: prefix.to_string_lossy().into_owned(),
        shell_port: 1,
        iopub_port: 2,
        stdin_port: 3,
        control_port: 4,
        hb_port: 5,
        ..connection()
    };
    let name = |port: u16| folder.path().join(format!("kernel-ipc-{port}"));
    // A killed kernel has left a socket file, on which no program listens.
    drop(std::os::unix::net::UnixListener::bind(name(1)).unwrap());
    assert!(name(1).exists());
    let mut frontend = Frontend::start_at(info.clone());
    frontend.run("let n = 1;");
    frontend.beats();
    for port in 1..=5 {
        let file = std::fs::metadata(name(port)).unwrap();
        assert!(file.file_type().is_socket() && file.permissions().mode() & 0o777 == 0o600, "{port}");
    }
    // A second kernel neither removes them nor leaves files of its own.
    let refused = |info: &ConnectionInfo| {
        let other = tempfile::tempdir().unwrap();
        let path = connection_file(other.path(), info);
        saescope::cli::serve_kernel(&path, &Progress::default()).unwrap_err().to_string()
    };
    let error = refused(&info);
    assert!(error.contains("kernel-ipc-5` (heartbeat socket): another program listens on it"), "{error}");
    frontend.run("n + 1");
    frontend.send_control(ShutdownRequest { restart: false });
    frontend.control_reply();
    frontend.ended(Duration::from_secs(30));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "socket files are left");

    std::fs::write(name(3), "a file").unwrap();
    let error = refused(&info);
    assert!(
        error.contains("cannot listen on `")
            && error.contains("-3` (stdin socket)")
            && error.contains("not a socket"),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(name(3)).unwrap(), "a file");
    let long =
        ConnectionInfo { ip: format!("{}/{}", folder.path().display(), "x".repeat(120)), ..info.clone() };
    assert!(refused(&long).contains("` (heartbeat socket)"), "{}", refused(&long));
    let nowhere = ConnectionInfo { ip: "/no/such/folder/kernel".to_owned(), ..info };
    assert!(refused(&nowhere).contains("/no/such/folder/kernel-5"), "{}", refused(&nowhere));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "socket files are left");
}

/// A new kernel removes the folders of killed kernels, but not those of living ones.
#[cfg(unix)]
#[test]
fn the_folder_of_a_killed_kernel_is_removed_by_the_next() {
    let root = tempfile::tempdir().unwrap();
    let connections = tempfile::tempdir().unwrap();
    let folders = || {
        let names = std::fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().path());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let new_since = |before: &std::collections::BTreeSet<_>| {
        let start = Instant::now();
        loop {
            let new = folders().difference(before).next().cloned();
            if let Some(folder) =
                new.filter(|new| new.join("lock").exists() && new.read_dir().unwrap().count() == 6)
            {
                return folder;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "the kernel did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let start = |n: usize| {
        let file = connections.path().join(n.to_string());
        std::fs::create_dir(&file).unwrap();
        let file = connection_file(&file, &connection());
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_saescope"));
        let command = command.args(["kernel", "start", "-f"]).arg(file).env("TMPDIR", root.path());
        let before = folders();
        (command.spawn().unwrap(), new_since(&before))
    };
    let kill = |mut kernel: std::process::Child| {
        kernel.kill().unwrap();
        kernel.wait().unwrap();
    };
    let ((first, killed), (second, living)) = (start(0), start(1));
    std::fs::create_dir(root.path().join("saescope-of-somebody")).unwrap();
    kill(first);
    assert!(killed.exists());
    let (third, last) = start(2);
    assert!(!killed.exists() && living.exists() && last.exists());
    assert!(root.path().join("saescope-of-somebody").exists());
    kill(second);
    kill(third);
}
