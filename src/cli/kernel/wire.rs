//! Sending and receiving messages: signatures, duplicates, and where a reply goes.

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

/// The number of messages remembered to refuse duplicates.
const REMEMBERED: usize = 1 << 16;

/// The number of unpublished messages above which a script that prints waits.
const MAX_WAITING: usize = 10_000;

/// The queues of outgoing messages. Clones share the queues.
#[derive(Clone)]
pub(super) struct Wire {
    pub(super) iopub: UnboundedSender<JupyterMessage>,
    pub(super) shell: UnboundedSender<JupyterMessage>,
    pub(super) stdin: UnboundedSender<JupyterMessage>,
    /// The number of messages waiting to be published.
    pub(super) waiting: Arc<AtomicUsize>,
}

impl Wire {
    /// Publishes a message caused by `parent` to all front ends.
    pub(super) fn publish(&self, content: impl Into<JupyterMessageContent>, parent: &JupyterMessage) {
        let message = JupyterMessage::new(content, Some(parent));
        let topic = message.header.msg_type.clone().into_bytes().into();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // A closed socket means that the kernel is about to end.
        let _ = self.iopub.send(message.with_zmq_identities(vec![topic]));
    }

    /// Replies to the sender of `parent`.
    pub(super) fn reply(&self, content: impl Into<JupyterMessageContent>, parent: &JupyterMessage) {
        let _ = self.shell.send(JupyterMessage::new(content, Some(parent)));
    }

    /// Asks the sender of `parent` for input.
    pub(super) fn ask(&self, content: impl Into<JupyterMessageContent>, parent: &JupyterMessage) {
        let _ = self.stdin.send(JupyterMessage::new(content, Some(parent)));
    }

    /// Publishes "busy", does the work for `parent`, and publishes "idle".
    pub(super) fn busy(&self, parent: &JupyterMessage, work: impl FnOnce()) {
        self.publish(Status::busy(), parent);
        work();
        self.publish(Status::idle(), parent);
    }

    /// Publishes what a script prints and shows. Waits while too many messages are queued, unless `is_over`.
    pub(super) fn show(
        &self,
        content: impl Into<JupyterMessageContent>,
        parent: &JupyterMessage,
        is_over: impl Fn() -> bool,
    ) {
        while self.waiting.load(Ordering::Relaxed) > MAX_WAITING && !is_over() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.publish(content, parent);
    }
}

/// The result of receiving a message.
pub(super) enum Incoming {
    /// A message with a valid signature that is new.
    Message(Box<JupyterMessage>),
    /// A message to ignore, with the reason.
    Refused(String),
    /// The peer has gone or speaks another protocol.
    Failed,
}

/// The headers of accepted messages. (Ids do not identify messages: jupyter_client uses the same ids on the control
/// socket and on the shell socket.)
#[derive(Default)]
pub(super) struct Seen {
    headers: HashSet<Arc<[u8]>>,
    order: VecDeque<Arc<[u8]>>,
}

impl Seen {
    /// Adds a header and returns whether it was new.
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

/// Receives a message and checks its signature, in constant time, and that it is new: an eavesdropper could send it
/// again.
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
        // A message that `parse` accepts has a header.
        Ok(message) if !raw.jparts.first().is_some_and(|header| seen.borrow_mut().is_new(header)) => {
            Incoming::Refused(format!("message `{}` was received before", message.header.msg_id))
        }
        Ok(message) => Incoming::Message(Box::new(message)),
        Err(error) => Incoming::Refused(format!("it is malformed: {error}")),
    }
}

/// Parses a signed message. Content that does not fit its type is kept as unknown, so that it gets a reply.
fn parse(raw: &RawMessage) -> Result<JupyterMessage, String> {
    let [header, parent, metadata, content, ..] = raw.jparts.as_slice() else {
        return Err(format!("expected 4 parts, got {}", raw.jparts.len()));
    };
    let header: Header = serde_json::from_slice(header).map_err(|e| format!("header: {e}"))?;
    // Content that is not JSON becomes null, which fits no type, so that the message gets an error reply.
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

/// Adds the fields that front ends leave out.
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
