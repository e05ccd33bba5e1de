//! A front end for the tests: a kernel on a thread of this process, and the five sockets to it.

use jupyter_protocol::{
    ConnectionInfo, ExecuteReply, ExecuteRequest, JupyterMessage, JupyterMessageContent, KernelInfoRequest,
    ReplyStatus, ShutdownRequest, Transport,
};
use jupyter_zmq_client::connection::{
    ClientControlConnection, ClientHeartbeatConnection, ClientIoPubConnection, ClientShellConnection,
    ClientStdinConnection, Connection, create_client_control_connection, create_client_heartbeat_connection,
    create_client_iopub_connection, create_client_shell_connection_with_identity,
    create_client_stdin_connection_with_identity, peer_identity_for_session,
};
use saescope::Progress;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How long a test waits for a message before it fails.
const WAIT: Duration = Duration::from_secs(120);

/// A kernel and a front end that is connected to it.
pub struct Frontend {
    runtime: Runtime,
    pub info: ConnectionInfo,
    pub shell: ClientShellConnection,
    pub control: ClientControlConnection,
    pub iopub: ClientIoPubConnection,
    pub stdin: ClientStdinConnection,
    pub heartbeat: ClientHeartbeatConnection,
    kernel: Option<JoinHandle<saescope::Result<()>>>,
    pub folder: tempfile::TempDir,
}

/// Writes a connection file as Jupyter does.
pub fn connection_file(folder: &std::path::Path, info: &ConnectionInfo) -> PathBuf {
    let path = folder.join("connection.json");
    std::fs::write(&path, serde_json::to_vec(info).unwrap()).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    path
}

/// A free port that no other program is assigned: below the range from which the system assigns ports, and each only
/// once in this process.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const PORTS: u32 = 12_000;
    loop {
        // Concurrent processes start at different ports.
        let port = (std::process::id() % PORTS * 97 + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS + 20_000;
        let port = u16::try_from(port).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A connection with free ports and a key.
pub fn connection() -> ConnectionInfo {
    let [shell_port, iopub_port, stdin_port, control_port, hb_port] = [(); 5].map(|()| free_port());
    ConnectionInfo {
        ip: "127.0.0.1".to_owned(),
        transport: Transport::TCP,
        shell_port,
        iopub_port,
        stdin_port,
        control_port,
        hb_port,
        key: "a key for tests".to_owned(),
        signature_scheme: "hmac-sha256".to_owned(),
        kernel_name: None,
    }
}

impl Frontend {
    /// Starts a kernel and connects to it.
    pub fn start() -> Frontend {
        Self::start_at(connection())
    }

    /// Starts a kernel at these addresses and connects to it.
    pub fn start_at(info: ConnectionInfo) -> Frontend {
        let folder = tempfile::tempdir().unwrap();
        Self::start_by(&connection_file(folder.path(), &info), info)
    }

    /// Starts a kernel from a connection file and connects to the addresses in `info`.
    pub fn start_by(file: &std::path::Path, info: ConnectionInfo) -> Frontend {
        let (folder, path) = (tempfile::tempdir().unwrap(), file.to_owned());
        let kernel = std::thread::spawn(move || saescope::cli::serve_kernel(&path, &Progress::default()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let session = "front-end";
        let identity = peer_identity_for_session(session).unwrap();
        let (shell, control, iopub, stdin, heartbeat) = runtime.block_on(async {
            (
                create_client_shell_connection_with_identity(&info, session, identity.clone()).await.unwrap(),
                create_client_control_connection(&info, session).await.unwrap(),
                create_client_iopub_connection(&info, "", session).await.unwrap(),
                create_client_stdin_connection_with_identity(&info, session, identity).await.unwrap(),
                create_client_heartbeat_connection(&info).await.unwrap(),
            )
        });
        let kernel = Some(kernel);
        let mut frontend =
            Frontend { runtime, info, shell, control, iopub, stdin, heartbeat, kernel, folder };
        // Messages that are published before the subscription are lost: ask until one arrives.
        loop {
            frontend.send(KernelInfoRequest {});
            frontend.reply();
            let timed =
                async { tokio::time::timeout(Duration::from_millis(200), frontend.iopub.read()).await };
            if frontend.runtime.block_on(timed).is_ok() {
                break;
            }
        }
        // Then read everything that the requests have caused.
        let last = frontend.send(ExecuteRequest { silent: true, ..ExecuteRequest::new(String::new()) });
        frontend.outputs(&last);
        frontend.reply();
        frontend
    }

    fn wait<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        let timed = async { tokio::time::timeout(WAIT, future).await };
        self.runtime.block_on(timed).unwrap_or_else(|_| panic!("no {what}"))
    }

    /// Sends a message to the shell socket and returns its id.
    pub fn send(&mut self, content: impl Into<JupyterMessageContent>) -> String {
        self.send_message(JupyterMessage::new(content, None))
    }

    pub fn send_message(&mut self, message: JupyterMessage) -> String {
        let id = message.header.msg_id.clone();
        self.runtime.block_on(self.shell.send(message)).unwrap();
        id
    }

    /// Sends a message to the control socket.
    pub fn send_control(&mut self, content: impl Into<JupyterMessageContent>) {
        self.send_control_message(JupyterMessage::new(content, None));
    }

    pub fn send_control_message(&mut self, message: JupyterMessage) {
        self.runtime.block_on(self.control.send(message)).unwrap();
    }

    pub fn answer(&mut self, content: impl Into<JupyterMessageContent>) {
        let message = JupyterMessage::new(content, None);
        self.runtime.block_on(self.stdin.send(message)).unwrap();
    }

    pub fn execute(&mut self, code: &str) -> String {
        self.send(ExecuteRequest::new(code.to_owned()))
    }

    /// The next reply of the shell socket.
    pub fn reply(&mut self) -> JupyterMessage {
        let timed = async { tokio::time::timeout(WAIT, self.shell.read()).await };
        self.runtime.block_on(timed).expect("no reply").unwrap()
    }

    /// Returns whether the shell socket stays silent for `duration`.
    pub fn is_silent(&mut self, duration: Duration) -> bool {
        let timed = async { tokio::time::timeout(duration, self.shell.read()).await };
        self.runtime.block_on(timed).is_err()
    }

    /// The next reply of the shell socket, which must be to an execution.
    #[track_caller]
    pub fn execute_reply(&mut self) -> ExecuteReply {
        match self.reply().content {
            JupyterMessageContent::ExecuteReply(reply) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub fn control_reply(&mut self) -> JupyterMessage {
        let timed = async { tokio::time::timeout(WAIT, self.control.read()).await };
        self.runtime.block_on(timed).expect("no reply").unwrap()
    }

    pub fn question(&mut self) -> JupyterMessage {
        let timed = async { tokio::time::timeout(WAIT, self.stdin.read()).await };
        self.runtime.block_on(timed).expect("no question").unwrap()
    }

    /// The next message of the iopub socket.
    pub fn published(&mut self) -> JupyterMessage {
        let timed = async { tokio::time::timeout(WAIT, self.iopub.read()).await };
        self.runtime.block_on(timed).expect("nothing published").unwrap()
    }

    /// The messages that a request causes, up to the status "idle" and without any status.
    pub fn outputs(&mut self, id: &str) -> Vec<JupyterMessageContent> {
        let mut outputs = Vec::new();
        loop {
            let message = self.published();
            if message.parent_header.as_ref().is_none_or(|parent| parent.msg_id != id) {
                continue;
            }
            match message.content {
                JupyterMessageContent::Status(status) if status.execution_state.as_str() == "idle" => {
                    return outputs;
                }
                JupyterMessageContent::Status(_) => {}
                // Consecutive stream messages are joined: how they are divided does not matter.
                JupyterMessageContent::StreamContent(more) => match outputs.last_mut() {
                    Some(JupyterMessageContent::StreamContent(text)) => text.text += &more.text,
                    _ => outputs.push(more.into()),
                },
                content => outputs.push(content),
            }
        }
    }

    /// Runs a cell that must not fail.
    #[track_caller]
    pub fn run(&mut self, code: &str) -> Vec<JupyterMessageContent> {
        let id = self.execute(code);
        let outputs = self.outputs(&id);
        let reply = self.execute_reply();
        assert_eq!(reply.status, ReplyStatus::Ok, "{code}: {:?}", reply.error);
        outputs
    }

    pub fn beats(&mut self) {
        let timed = async { tokio::time::timeout(WAIT, self.heartbeat.single_heartbeat()).await };
        self.runtime.block_on(timed).expect("no heartbeat").unwrap();
    }

    /// Sends a heartbeat and disconnects before the answer.
    pub fn beats_and_disconnects(&self) {
        use zeromq::{Socket, SocketSend};
        let address = format!("tcp://{}:{}", self.info.ip, self.info.hb_port);
        let asks = async {
            let mut socket = zeromq::ReqSocket::new();
            socket.connect(&address).await.unwrap();
            socket.send(zeromq::ZmqMessage::from("ping")).await.unwrap();
        };
        self.wait("connection", asks);
    }

    /// Sends raw frames to the shell socket.
    pub fn send_frames(&mut self, frames: Vec<Vec<u8>>) {
        use zeromq::SocketSend;
        let mut frames = frames.into_iter();
        let mut message = zeromq::ZmqMessage::from(frames.next().unwrap());
        frames.for_each(|frame| message.push_back(frame.into()));
        self.runtime.block_on(self.shell.socket.send(message)).unwrap();
    }

    /// A shell socket to the same kernel with another key.
    pub fn stranger(&self) -> Stranger {
        let info = ConnectionInfo { key: "another key".to_owned(), ..self.info.clone() };
        let identity = peer_identity_for_session("stranger").unwrap();
        let shell = create_client_shell_connection_with_identity(&info, "stranger", identity);
        Stranger { shell: self.wait("connection", shell).unwrap() }
    }

    /// Sends a message from a stranger's socket; returns whether there is no answer within half a second.
    pub fn is_ignored(&self, stranger: &mut Stranger, content: impl Into<JupyterMessageContent>) -> bool {
        self.runtime.block_on(stranger.shell.send(JupyterMessage::new(content, None))).unwrap();
        let timed = async { tokio::time::timeout(Duration::from_millis(500), stranger.shell.read()).await };
        self.runtime.block_on(timed).is_err()
    }

    /// Waits until the kernel has ended, as it does after a shutdown.
    #[track_caller]
    pub fn ended(&mut self, within: Duration) {
        let kernel = self.kernel.take().unwrap();
        let start = Instant::now();
        while !kernel.is_finished() {
            assert!(start.elapsed() < within, "the kernel has not ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        kernel.join().unwrap().unwrap();
    }
}

/// A client with the wrong key.
pub struct Stranger {
    shell: Connection<zeromq::DealerSocket>,
}

/// A kernel does not outlive its test.
impl Drop for Frontend {
    fn drop(&mut self) {
        let Some(kernel) = self.kernel.take().filter(|_| !std::thread::panicking()) else { return };
        let message = JupyterMessage::new(ShutdownRequest { restart: false }, None);
        let shutdown = async {
            self.control.send(message).await?;
            self.control.read().await
        };
        // A kernel that has already ended does not answer.
        let _ = self.runtime.block_on(async { tokio::time::timeout(Duration::from_secs(2), shutdown).await });
        let start = Instant::now();
        while !kernel.is_finished() && start.elapsed() < Duration::from_secs(3) {
            self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(5)).await });
        }
    }
}
