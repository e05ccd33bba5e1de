//! The five sockets: heartbeat, iopub (output), shell and control (requests), and stdin (the user's answers).

use super::super::engine::Engine;
use super::super::terminal::to_stderr;
use super::connection::{REST, not_bound};
use super::control::Control;
#[cfg(unix)]
use super::gate::Proxy;
use super::notebook::Notebook;
use super::shell::Shell;
use super::wire::{Incoming, Seen, Wire, receive};
use crate::error::{Error, Result};
use crate::progress::Progress;
use jupyter_protocol::{ConnectionInfo, JupyterMessage, JupyterMessageContent, Status, Stdio};
use jupyter_zmq_client::{
    Connection, KernelHeartbeatConnection, KernelIoPubConnection, RouterRecvConnection, RouterSendConnection,
    RuntimeError, create_kernel_control_connection, create_kernel_heartbeat_connection,
    create_kernel_iopub_connection, create_kernel_shell_connection, create_kernel_stdin_connection,
};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;
use zeromq::{SocketRecv, SocketSend};

/// How long a call may take to stop before the kernel ends anyway.
const PATIENCE: Duration = Duration::from_secs(2);
/// The time that the last messages get to be sent.
const FAREWELL: Duration = Duration::from_millis(100);
/// How long printed lines are collected, so that a loop that prints sends few messages.
const GATHERING: Duration = Duration::from_millis(30);

/// Serves a notebook until it is shut down. An interrupt cancels `progress`.
pub(super) fn run(connection: &ConnectionInfo, progress: &Progress) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::failed("start the runtime of the sockets"))?;
    let served = runtime.block_on(serve(connection, progress));
    // The engine's thread may be in a call that does not check the flag: do not wait for it.
    runtime.shutdown_background();
    served
}

async fn serve(connection: &ConnectionInfo, interrupted: &Progress) -> Result<()> {
    #[cfg(unix)]
    let mut gate = Proxy::open(connection).await?;
    #[cfg(unix)]
    let connection = &gate.inside.clone();
    let started = JupyterMessage::from(Status::starting()).header;
    let session = started.msg_id.clone();
    let bound = |socket: &'static str, port: u16| {
        move |e: RuntimeError| not_bound(socket, format_args!("port {port}"), e)
    };
    let heartbeat = create_kernel_heartbeat_connection(connection).await;
    let heartbeat = heartbeat.map_err(bound("heartbeat", connection.hb_port))?;
    let iopub = create_kernel_iopub_connection(connection, &session).await;
    let iopub = iopub.map_err(bound("iopub", connection.iopub_port))?;
    let shell = create_kernel_shell_connection(connection, &session).await;
    let shell = shell.map_err(bound("shell", connection.shell_port))?;
    let control = create_kernel_control_connection(connection, &session).await;
    let control = control.map_err(bound("control", connection.control_port))?;
    let stdin = create_kernel_stdin_connection(connection, &session).await;
    let stdin = stdin.map_err(bound("stdin", connection.stdin_port))?;
    #[cfg(unix)]
    gate.serve();

    let (to_iopub, published) = unbounded_channel();
    let (to_shell, replies) = unbounded_channel();
    let (to_control, control_replies) = unbounded_channel();
    let (to_stdin, questions) = unbounded_channel();
    let (to_answers, answers) = channel();
    let (end, mut ended) = unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let wire = Wire { iopub: to_iopub, shell: to_shell, stdin: to_stdin, waiting: waiting.clone() };

    let notebook = Notebook::new(wire.clone(), interrupted.clone(), answers);
    let reporter = notebook.clone();
    let progress = interrupted.reporting_to(move |report| reporter.report(report));
    let engine = Engine::start(&progress, notebook.clone())?;
    let requests = Shell::new(wire.clone(), notebook, progress.clone());
    let urgent = Control::new(requests.clone(), started);
    let (shell_out, shell_in) = shell.split();
    let (control_out, control_in) = control.split();
    let (stdin_out, stdin_in) = stdin.split();
    let seen = RefCell::default();
    let sessions =
        Sessions { requests, control: urgent, engine: engine.clone(), wire: wire.clone(), seen, end };

    // The sockets are served forever.
    let sockets = async {
        tokio::join!(
            beat(heartbeat),
            publish(iopub, published, &waiting),
            send(shell_out, replies),
            send(control_out, control_replies),
            send(stdin_out, questions),
            take_answers(stdin_in, &sessions.seen, to_answers),
            sessions.take_requests(shell_in),
            sessions.take_control(control_in, &to_control),
        )
    };
    tokio::select! {
        _ = sockets => {}
        // The reply has had time to be sent.
        _ = ended.recv() => {}
        () = parent_gone() => {}
        () = told_to_end() => {}
    }
    // A running call gets a moment to clean up.
    progress.cancel();
    let stopped = tokio::task::spawn_blocking(move || engine.ask(|_| ()));
    let _ = tokio::time::timeout(PATIENCE, stopped).await;
    Ok(())
}

/// Echoes every message, which shows that the kernel is alive.
async fn beat(mut connection: KernelHeartbeatConnection) {
    loop {
        match connection.socket.recv().await {
            // The sender may have gone.
            Ok(message) => drop(connection.socket.send(message).await),
            Err(_) => tokio::time::sleep(REST).await,
        }
    }
}

/// Sends published messages to all front ends. (A PUB socket skips a front end that does not read. An XPUB socket of
/// this library, which could greet new ones, would wait for it and hold up all others.)
async fn publish(
    mut iopub: KernelIoPubConnection,
    mut published: UnboundedReceiver<JupyterMessage>,
    waiting: &AtomicUsize,
) {
    let _ = iopub.send(Status::starting().into()).await;
    let mut sent = Instant::now();
    while let Some(message) = published.recv().await {
        let mut messages = vec![message];
        let mut taken = 1;
        // Printed text waits a moment for more; other messages do not.
        while messages
            .last()
            .is_some_and(|last| matches!(last.content, JupyterMessageContent::StreamContent(_)))
            && let Ok(Some(next)) = tokio::time::timeout_at(sent + GATHERING, published.recv()).await
        {
            join(&mut messages, next);
            taken += 1;
        }
        waiting.fetch_sub(taken, Ordering::Relaxed);
        for message in messages {
            if let Err(error) = iopub.send(message).await {
                to_stderr(&format!("warning: cannot publish a message: {error}"));
            }
        }
        sent = Instant::now();
    }
}

/// Adds a message. Text after text on the same stream of the same cell is appended to it.
fn join(messages: &mut Vec<JupyterMessage>, next: JupyterMessage) {
    const MAX: usize = 1 << 16;
    if let Some(last) = messages.last_mut()
        && let (JupyterMessageContent::StreamContent(text), JupyterMessageContent::StreamContent(more)) =
            (&mut last.content, &next.content)
        && text.text.len() < MAX
        && matches!((&text.name, &more.name), (Stdio::Stdout, Stdio::Stdout) | (Stdio::Stderr, Stdio::Stderr))
        && last.parent_header.as_ref().map(|parent| &parent.msg_id)
            == next.parent_header.as_ref().map(|parent| &parent.msg_id)
    {
        text.text += &more.text;
        return;
    }
    messages.push(next);
}

/// Sends each message to the peer that it is for.
async fn send(mut connection: RouterSendConnection, mut messages: UnboundedReceiver<JupyterMessage>) {
    while let Some(message) = messages.recv().await {
        // The sender may have gone.
        if let Err(error) = connection.send(message).await {
            to_stderr(&format!("warning: cannot send a reply: {error}"));
        }
    }
}

/// Everything that answering requests needs.
struct Sessions {
    requests: Shell,
    control: Control,
    engine: Engine,
    wire: Wire,
    /// The messages of all sockets: a message seen on one socket is not new on another.
    seen: RefCell<Seen>,
    end: UnboundedSender<()>,
}

impl Sessions {
    /// Queues requests on the session's thread, in order.
    async fn take_requests(&self, mut shell: RouterRecvConnection) {
        loop {
            let message = next(&mut shell, &self.seen, "shell").await;
            if let Some(reply) = self.control.urgent(&message) {
                self.wire.busy(&message, || self.wire.reply(reply.clone(), &message));
                self.end_after(&reply).await;
                continue;
            }
            let number = self.requests.number();
            let requests = self.requests.clone();
            if let Err(error) = self.engine.submit(move |session| requests.handle(session, message, number)) {
                to_stderr(&format!("error: {error}"));
                let _ = self.end.send(());
            }
        }
    }

    /// Answers control requests without waiting for the session.
    async fn take_control(
        &self,
        mut control: RouterRecvConnection,
        replies: &UnboundedSender<JupyterMessage>,
    ) {
        loop {
            let message = next(&mut control, &self.seen, "control").await;
            let reply = self.control.answer(&message);
            self.wire.busy(&message, || {
                if let Some(reply) = reply.clone() {
                    let _ = replies.send(JupyterMessage::new(reply, Some(&message)));
                }
            });
            if let Some(reply) = reply {
                self.end_after(&reply).await;
            }
        }
    }

    /// Ends the kernel if `reply` is to a shutdown, after the time that it takes to send it.
    async fn end_after(&self, reply: &JupyterMessageContent) {
        if let JupyterMessageContent::ShutdownReply(_) = reply {
            tokio::time::sleep(FAREWELL).await;
            let _ = self.end.send(());
        }
    }
}

/// Forwards the lines that the user types.
async fn take_answers(mut stdin: RouterRecvConnection, seen: &RefCell<Seen>, answers: Sender<String>) {
    loop {
        if let JupyterMessageContent::InputReply(reply) = next(&mut stdin, seen, "stdin").await.content {
            let _ = answers.send(reply.value);
        }
    }
}

/// Waits for the next valid message.
async fn next<S: SocketRecv>(
    connection: &mut Connection<S>,
    seen: &RefCell<Seen>,
    socket: &str,
) -> JupyterMessage {
    loop {
        match receive(connection, seen).await {
            Incoming::Message(message) => return *message,
            Incoming::Refused(why) => {
                to_stderr(&format!("warning: ignored a message on the {socket} socket: {why}"));
            }
            Incoming::Failed => tokio::time::sleep(REST).await,
        }
    }
}

/// Waits until the process that started the kernel is gone, if known (JPY_PARENT_PID): it cannot end the kernel then.
async fn parent_gone() {
    #[cfg(unix)]
    if std::env::var_os("JPY_PARENT_PID").is_some() {
        let parent = rustix::process::getppid();
        while rustix::process::getppid() == parent {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        return;
    }
    std::future::pending().await
}

/// Waits for SIGTERM or SIGHUP.
async fn told_to_end() {
    #[cfg(unix)]
    {
        use super::super::interrupts::is_ignored;
        use tokio::signal::unix::{SignalKind, signal};
        let told = |kind: SignalKind| async move {
            if !is_ignored(kind.as_raw_value())
                && let Ok(mut signal) = signal(kind)
            {
                signal.recv().await;
                return;
            }
            std::future::pending().await
        };
        tokio::select! {
            () = told(SignalKind::terminate()) => {}
            () = told(SignalKind::hangup()) => {}
        }
    }
    #[cfg(not(unix))]
    std::future::pending().await
}
