//! Messages in and out: who may send them, and to whom an answer goes.

use jupyter_protocol::{Header, JupyterMessage, JupyterMessageContent, Status, UnknownMessage};
use jupyter_zmq_client::{Connection, RawMessage, RuntimeError};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use zeromq::SocketRecv;

/// How many messages are remembered, so that none is taken twice.
const REMEMBERED: usize = 1 << 16;

/// How many messages may wait to be published before a script that prints waits for them.
const MOST_WAITING: usize = 10_000;

/// The ways out of the kernel. Clones lead to the same sockets.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) iopub: UnboundedSender<JupyterMessage>,
    pub(super) shell: UnboundedSender<JupyterMessage>,
    pub(super) stdin: UnboundedSender<JupyterMessage>,
    /// How many messages wait to be published.
    pub(super) waiting: Arc<AtomicUsize>,
}

impl Wire {
    /// Tells every front end something that `parent` has brought about.
    pub(super) fn publish(&self, content: impl Into<JupyterMessageContent>, parent: &JupyterMessage) {
        let message = JupyterMessage::new(content, Some(parent));
        let topic = message.header.msg_type.clone().into_bytes().into();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // Without a socket the kernel is about to end.
        let _ = self.iopub.send(message.with_zmq_identities(vec![topic]));
    }

    /// Answers who sent `parent`.
    pub(super) fn reply(&self, content: impl Into<JupyterMessageContent>, parent: &JupyterMessage) {
        let _ = self.shell.send(JupyterMessage::new(content, Some(parent)));
    }

    /// Asks who sent `parent` for input.
    pub(super) fn ask(&self, content: impl Into<JupyterMessageContent>, parent: &JupyterMessage) {
        let _ = self.stdin.send(JupyterMessage::new(content, Some(parent)));
    }

    /// What the kernel does about a message, between "busy" and "idle".
    pub(super) fn busy(&self, parent: &JupyterMessage, work: impl FnOnce()) {
        self.publish(Status::busy(), parent);
        work();
        self.publish(Status::idle(), parent);
    }

    /// The same for what a script prints and shows: one that does so faster than anybody can read waits, until `is_over`.
    pub(super) fn show(
        &self,
        content: impl Into<JupyterMessageContent>,
        parent: &JupyterMessage,
        is_over: impl Fn() -> bool,
    ) {
        while self.waiting.load(Ordering::Relaxed) > MOST_WAITING && !is_over() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.publish(content, parent);
    }
}

/// What came in.
pub(super) enum Incoming {
    /// A message that is signed and new.
    Message(Box<JupyterMessage>),
    /// Something that is to be left alone, and why.
    Refused(String),
    /// A peer that has gone, or that speaks another language.
    Failed,
}

/// The headers of messages that were taken already. (Ids do not tell messages apart: what jupyter_client sends to the
/// control socket has the ids of what it sends to the shell socket.)
#[derive(Default)]
pub(super) struct Seen {
    headers: HashSet<Arc<[u8]>>,
    order: VecDeque<Arc<[u8]>>,
}

impl Seen {
    /// Whether a header is new; it is not any more.
    fn is_new(&mut self, header: &[u8]) -> bool {
        let header: Arc<[u8]> = header.into();
        if !self.headers.insert(header.clone()) {
            return false;
        }
        self.order.push_back(header);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.headers.remove(&oldest);
        }
        true
    }
}

/// Reads a message and checks its signature, in constant time, and that it has not come before: whoever can listen could
/// send it again.
pub(super) async fn receive<S: SocketRecv>(connection: &mut Connection<S>, seen: &RefCell<Seen>) -> Incoming {
    let Ok(frames) = connection.socket.recv().await else { return Incoming::Failed };
    let raw = match RawMessage::from_multipart(frames, &connection.mac) {
        Ok(raw) => raw,
        Err(RuntimeError::VerifyError(_) | RuntimeError::DecodeError(_)) => {
            return Incoming::Refused("its signature is wrong".to_owned());
        }
        Err(error) => return Incoming::Refused(error.to_string()),
    };
    match parse(&raw) {
        // What `parse` takes has a header.
        Ok(message) if !raw.jparts.first().is_some_and(|header| seen.borrow_mut().is_new(header)) => {
            Incoming::Refused(format!("the message `{}` has come before", message.header.msg_id))
        }
        Ok(message) => Incoming::Message(Box::new(message)),
        Err(error) => Incoming::Refused(format!("it is malformed: {error}")),
    }
}

/// A signed message. Content that is not what its type has is kept as it is, so that it can be answered.
fn parse(raw: &RawMessage) -> Result<JupyterMessage, String> {
    let [header, parent, metadata, content, ..] = raw.jparts.as_slice() else {
        return Err(format!("expected 4 parts, got {}", raw.jparts.len()));
    };
    let header: Header = serde_json::from_slice(header).map_err(|e| format!("header: {e}"))?;
    // What cannot be read is no content that a type of message has: the message is answered so.
    let content = serde_json::from_slice(content).unwrap_or(Value::Null);
    let content = with_defaults(&header.msg_type, content);
    let metadata = serde_json::from_slice(metadata).map_err(|e| format!("metadata: {e}"))?;
    let known = JupyterMessageContent::from_type_and_content(&header.msg_type, content.clone());
    let msg_type = header.msg_type.clone();
    let unknown = |_| JupyterMessageContent::UnknownMessage(UnknownMessage { msg_type, content });
    Ok(JupyterMessage {
        zmq_identities: raw.zmq_identities.clone(),
        header,
        // A message without a parent has an empty one.
        parent_header: serde_json::from_slice(parent).ok(),
        metadata,
        content: known.unwrap_or_else(unknown),
        buffers: Vec::new(),
        channel: None,
    })
}

/// Content with what front ends leave out.
fn with_defaults(msg_type: &str, content: Value) -> Value {
    let defaults = match msg_type {
        "execute_request" => json!({ "silent": false, "store_history": true, "user_expressions": {} }),
        "history_request" => json!({
            "hist_access_type": "tail", "n": 0, "output": false, "pattern": "*", "raw": true, "session": 0, "start": 0,
            "stop": 0, "unique": false,
        }),
        _ => return content,
    };
    match (defaults, content) {
        (Value::Object(mut all), Value::Object(given)) => {
            all.extend(given.into_iter().filter(|(_, value)| !value.is_null()));
            Value::Object(all)
        }
        (_, content) => content,
    }
}
