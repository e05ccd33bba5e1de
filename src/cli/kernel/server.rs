//! The five sockets: heartbeat, what is published, requests to the session, requests about it, and answers of the user.

use super::super::engine::Engine;
use super::super::terminal::to_stderr;
use super::notebook::Notebook;
use super::shell::{Shell, kernel_info, not_understood};
use super::wire::{Incoming, Seen, Wire, receive};
use crate::error::{Error, Result};
use crate::progress::Progress;
use jupyter_protocol::{
    ConnectionInfo, InterruptReply, IoPubWelcome, JupyterMessage, JupyterMessageContent, ReplyStatus,
    ShutdownReply, Status, Stdio,
};
use jupyter_zmq_client::{
    Connection, KernelControlConnection, KernelHeartbeatConnection, KernelIoPubXPubConnection,
    RouterRecvConnection, RouterSendConnection, RuntimeError, SubscriptionEvent,
    create_kernel_control_connection, create_kernel_heartbeat_connection,
    create_kernel_iopub_xpub_connection, create_kernel_shell_connection, create_kernel_stdin_connection,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use zeromq::{SocketRecv, SocketSend};

/// How long a call may take to stop before the kernel ends all the same.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the last messages have to get out.
const FAREWELL: Duration = Duration::from_millis(100);

/// Serves a notebook until it is shut down. `progress` is what an interrupt cancels.
pub(super) fn run(connection: &ConnectionInfo, progress: &Progress) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::invalid("the kernel", "a runtime for its sockets", e))?;
    let served = runtime.block_on(serve(connection, progress));
    // The engine's thread may be in a call that does not look at the flag: nothing waits for it.
    runtime.shutdown_background();
    served
}

async fn serve(connection: &ConnectionInfo, interrupted: &Progress) -> Result<()> {
    let session = JupyterMessage::from(Status::starting()).header.msg_id;
    let bound = |socket: &'static str, port: u16| {
        move |e: RuntimeError| {
            Error::invalid(format!("the {socket} socket at port {port}"), "one that can be listened at", e)
        }
    };
    let heartbeat = create_kernel_heartbeat_connection(connection).await;
    let heartbeat = heartbeat.map_err(bound("heartbeat", connection.hb_port))?;
    let iopub = create_kernel_iopub_xpub_connection(connection, &session).await;
    let iopub = iopub.map_err(bound("iopub", connection.iopub_port))?;
    let shell = create_kernel_shell_connection(connection, &session).await;
    let shell = shell.map_err(bound("shell", connection.shell_port))?;
    let control = create_kernel_control_connection(connection, &session).await;
    let control = control.map_err(bound("control", connection.control_port))?;
    let stdin = create_kernel_stdin_connection(connection, &session).await;
    let stdin = stdin.map_err(bound("stdin", connection.stdin_port))?;

    let (to_iopub, published) = unbounded_channel();
    let (to_shell, replies) = unbounded_channel();
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
    let (shell_out, shell_in) = shell.split();
    let (stdin_out, stdin_in) = stdin.split();

    // All of these go on for ever, but for the end that one of the last three tells.
    tokio::select! {
        () = beat(heartbeat) => {}
        () = publish(iopub, published, &waiting) => {}
        () = send(shell_out, replies) => {}
        () = send(stdin_out, questions) => {}
        () = take_answers(stdin_in, to_answers) => {}
        () = take_requests(shell_in, requests, engine.clone(), end.clone()) => {}
        () = control_session(control, wire.clone(), progress.clone(), end) => {}
        () = parent_gone() => {}
        // The reply is on its way.
        _ = ended.recv() => {}
    }
    // A call that is running gets a moment to leave things whole.
    progress.cancel();
    let stopped = tokio::task::spawn_blocking(move || engine.ask(|_| ()));
    let _ = tokio::time::timeout(PATIENCE, stopped).await;
    Ok(())
}

/// Gives back whatever comes: the kernel is alive.
async fn beat(mut connection: KernelHeartbeatConnection) {
    while let Ok(message) = connection.socket.recv().await {
        if connection.socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Sends to everybody what has been published, and a welcome to who has just come.
async fn publish(
    mut iopub: KernelIoPubXPubConnection,
    mut published: UnboundedReceiver<JupyterMessage>,
    waiting: &AtomicUsize,
) {
    let _ = iopub.send(Status::starting().into()).await;
    loop {
        tokio::select! {
            event = iopub.recv_subscription() => {
                if let Ok(SubscriptionEvent::Subscribe(topic)) = event {
                    let _ = iopub.send(IoPubWelcome::new(topic).into()).await;
                }
            }
            message = published.recv() => {
                let Some(message) = message else { return };
                let mut messages = vec![message];
                let mut taken = 1;
                while let Ok(next) = published.try_recv() {
                    join(&mut messages, next);
                    taken += 1;
                }
                waiting.fetch_sub(taken, Ordering::Relaxed);
                for message in messages {
                    if let Err(error) = iopub.send(message).await {
                        to_stderr(&format!("warning: a message could not be published: {error}"));
                    }
                }
            }
        }
    }
}

/// Adds a message; a line behind one to the same stream of the same cell becomes part of it, so that a loop that prints
/// sends few messages.
fn join(messages: &mut Vec<JupyterMessage>, next: JupyterMessage) {
    const MOST: usize = 1 << 16;
    if let Some(last) = messages.last_mut()
        && let (JupyterMessageContent::StreamContent(text), JupyterMessageContent::StreamContent(more)) =
            (&mut last.content, &next.content)
        && text.text.len() < MOST
        && matches!((&text.name, &more.name), (Stdio::Stdout, Stdio::Stdout) | (Stdio::Stderr, Stdio::Stderr))
        && last.parent_header.as_ref().map(|parent| &parent.msg_id)
            == next.parent_header.as_ref().map(|parent| &parent.msg_id)
    {
        text.text += &more.text;
        return;
    }
    messages.push(next);
}

/// Sends messages to whom each is for.
async fn send(mut connection: RouterSendConnection, mut messages: UnboundedReceiver<JupyterMessage>) {
    while let Some(message) = messages.recv().await {
        // Who has asked may have gone.
        if let Err(error) = connection.send(message).await {
            to_stderr(&format!("warning: a reply could not be sent: {error}"));
        }
    }
}

/// Hands the session's requests to its thread, in their order.
async fn take_requests(
    mut shell: RouterRecvConnection,
    requests: Shell,
    engine: Engine,
    end: UnboundedSender<()>,
) {
    let mut seen = Seen::default();
    while let Some(message) = next(&mut shell, &mut seen, "shell").await {
        let number = requests.number();
        let requests = requests.clone();
        let done = engine.submit(move |session| requests.handle(session, message, number));
        if let Err(error) = done {
            to_stderr(&format!("error: {error}"));
            let _ = end.send(());
        }
    }
}

/// Answers what concerns the session but does not wait for it.
async fn control_session(
    mut control: KernelControlConnection,
    wire: Wire,
    progress: Progress,
    end: UnboundedSender<()>,
) {
    let mut seen = Seen::default();
    while let Some(message) = next(&mut control, &mut seen, "control").await {
        wire.publish(Status::busy(), &message);
        let reply = match &message.content {
            JupyterMessageContent::InterruptRequest(_) => {
                progress.cancel();
                Some(InterruptReply::default().into())
            }
            JupyterMessageContent::ShutdownRequest(request) => {
                let (restart, status) = (request.restart, ReplyStatus::Ok);
                Some(ShutdownReply { restart, status, error: None }.into())
            }
            JupyterMessageContent::KernelInfoRequest(_) => Some(kernel_info().into()),
            JupyterMessageContent::UnknownMessage(unknown) => not_understood(unknown).map(Into::into),
            _ => None,
        };
        if let Some(content) = reply {
            let content: JupyterMessageContent = content;
            if let Err(error) = control.send(JupyterMessage::new(content.clone(), Some(&message))).await {
                to_stderr(&format!("warning: a reply could not be sent: {error}"));
            }
            if let JupyterMessageContent::ShutdownReply(reply) = content {
                wire.publish(reply, &message);
                wire.publish(Status::idle(), &message);
                tokio::time::sleep(FAREWELL).await;
                let _ = end.send(());
            }
        }
        wire.publish(Status::idle(), &message);
    }
}

/// Hands on what the user has typed.
async fn take_answers(mut stdin: RouterRecvConnection, answers: Sender<String>) {
    let mut seen = Seen::default();
    while let Some(message) = next(&mut stdin, &mut seen, "stdin").await {
        if let JupyterMessageContent::InputReply(reply) = message.content {
            let _ = answers.send(reply.value);
        }
    }
}

/// The next message that may be taken; none at the end of the socket.
async fn next<S: SocketRecv>(
    connection: &mut Connection<S>,
    seen: &mut Seen,
    socket: &str,
) -> Option<JupyterMessage> {
    loop {
        match receive(connection, seen).await {
            Incoming::Message(message) => return Some(*message),
            Incoming::Refused(why) => {
                to_stderr(&format!("warning: a message at the {socket} socket is ignored: {why}"))
            }
            Incoming::Closed(why) => {
                to_stderr(&format!("error: the {socket} socket is closed: {why}"));
                return None;
            }
        }
    }
}

/// Waits until whoever has started the kernel is no more, if that is known (JPY_PARENT_PID): nobody would end it then.
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
