//! The shell channel: handles requests to the session, one after another on the session's thread.

use super::super::question::question;
use super::cell::Cell;
use super::history::History;
use super::media::{about, data, error_output, media};
use super::notebook::{Notebook, locked};
use super::wire::Wire;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::script::{Completeness, Session};
use jupyter_protocol::{
    CodeMirrorMode, CommClose, CommInfoReply, CompleteReply, CompleteRequest, ErrorOutput, ExecuteInput,
    ExecuteReply, ExecuteRequest, ExecuteResult, ExecutionCount, ExpressionResult, HelpLink, InspectReply,
    InspectRequest, IsCompleteReply, JupyterMessage, JupyterMessageContent, KernelInfoReply, LanguageInfo,
    Media, ReplyError, ReplyStatus, Transient, UnknownMessage,
};
use serde_json::json;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The shell channel. Clones share the state.
#[derive(Clone)]
pub(super) struct Shell {
    wire: Wire,
    notebook: Notebook,
    progress: Progress,
    state: Arc<Mutex<State>>,
    /// The number of messages received.
    received: Arc<AtomicU64>,
}

#[derive(Default)]
struct State {
    count: usize,
    history: History,
    /// Cells up to this message number do not run, after a failed cell or an interrupt.
    aborted: u64,
}

impl State {
    /// Aborts cells up to a message number.
    fn abort(&mut self, up_to: u64) {
        self.aborted = self.aborted.max(up_to);
    }
}

impl Shell {
    pub(super) fn new(wire: Wire, notebook: Notebook, progress: Progress) -> Self {
        Shell { wire, notebook, progress, state: Arc::default(), received: Arc::default() }
    }

    /// The number of the message just received, from 1.
    pub(super) fn number(&self) -> u64 {
        self.received.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Stops the running cell and aborts the queued ones.
    pub(super) fn interrupt(&self) {
        self.stop(self.received.load(Ordering::SeqCst));
    }

    /// Stops the running cell and aborts all later ones.
    pub(super) fn close(&self) {
        self.stop(u64::MAX);
    }

    /// Cancels under the lock: a cell that begins at this moment would else reset the flag.
    fn stop(&self, up_to: u64) {
        let mut state = locked(&self.state);
        state.abort(up_to);
        self.progress.cancel();
    }

    /// Handles a message. Every request gets a reply, even if its handler panics.
    pub(super) fn handle(&self, session: &mut Session, message: JupyterMessage, number: u64) {
        let message = Arc::new(message);
        self.wire.busy(&message, || {
            let answer = std::panic::AssertUnwindSafe(|| self.answer(session, &message, number));
            if std::panic::catch_unwind(answer).is_err() {
                self.notebook.end();
                let kind = &message.header.msg_type;
                if let Some(reply) = failed(kind, "internal error: please report what you did") {
                    self.wire.reply(reply, &message);
                }
            }
        });
    }

    fn answer(&self, session: &mut Session, message: &Arc<JupyterMessage>, number: u64) {
        let reply: JupyterMessageContent = match &message.content {
            JupyterMessageContent::ExecuteRequest(request) => {
                return self.execute(session, request, message, number);
            }
            // Widgets are not supported: what a front end opens is closed, as the protocol requires.
            JupyterMessageContent::CommOpen(open) => {
                let close = CommClose { comm_id: open.comm_id.clone(), data: Default::default() };
                return self.wire.publish(close, message);
            }
            JupyterMessageContent::CompleteRequest(request) => complete(session, request).into(),
            JupyterMessageContent::InspectRequest(request) => inspect(session, request).into(),
            JupyterMessageContent::IsCompleteRequest(request) => is_complete(session, &request.code).into(),
            JupyterMessageContent::HistoryRequest(request) => {
                locked(&self.state).history.reply(request).into()
            }
            JupyterMessageContent::KernelInfoRequest(_) => kernel_info().into(),
            JupyterMessageContent::CommInfoRequest(_) => CommInfoReply::default().into(),
            _ => match not_understood(&message.header.msg_type) {
                Some(reply) => reply.into(),
                None => return,
            },
        };
        self.wire.reply(reply, message);
    }

    fn execute(
        &self,
        session: &mut Session,
        request: &ExecuteRequest,
        message: &Arc<JupyterMessage>,
        number: u64,
    ) {
        let keeps = request.store_history && !request.silent;
        let count = {
            let mut state = locked(&self.state);
            if number <= state.aborted {
                // Without an execution count, which front ends would show at the cell.
                let (msg_type, content) = ("execute_reply".to_owned(), json!({ "status": "aborted" }));
                return self.wire.reply(UnknownMessage { msg_type, content }, message);
            }
            self.progress.reset();
            state.count += usize::from(keeps);
            state.count
        };
        let execution_count = ExecutionCount::new(count);
        if !request.silent {
            self.wire.publish(ExecuteInput { code: request.code.clone(), execution_count }, message);
        }
        let (silent, allow_stdin) = (request.silent, request.allow_stdin);
        self.notebook.begin(Cell { parent: message.clone(), silent, allow_stdin });
        // A cell that is not counted has no number.
        let name = if keeps { format!("cell [{count}]") } else { "input".to_owned() };
        let value = run(session, &request.code, &name);
        let expressions = match &value {
            Ok(_) => request.user_expressions.as_ref().map(|all| expressions(session, all)),
            Err(_) => None,
        };
        self.notebook.end();
        // An interrupt ends with its cell: the front end's next request is not canceled.
        self.progress.reset();
        let mut reply = ExecuteReply { execution_count, user_expressions: expressions, ..Default::default() };
        let mut text = None;
        match value {
            Ok(Some(Answer { text: plain, data, metadata })) => {
                if !silent {
                    // The protocol requires this field, even if empty.
                    let transient = Some(Transient::default());
                    self.wire.publish(ExecuteResult { execution_count, data, metadata, transient }, message);
                }
                text = Some(plain);
            }
            Ok(None) => {}
            Err(error) => {
                let output = error_output(&error);
                reply.status = ReplyStatus::Error;
                reply.error = Some(Box::new(reply_error(&output)));
                if !silent {
                    self.wire.publish(output, message);
                }
            }
        }
        if reply.status == ReplyStatus::Error && request.stop_on_error {
            locked(&self.state).abort(self.received.load(Ordering::SeqCst));
        }
        if keeps {
            locked(&self.state).history.push(count, &request.code, text.as_deref());
        }
        self.wire.reply(reply, message);
    }
}

/// The value of a cell, as text and in all forms.
struct Answer {
    text: String,
    data: Media,
    /// The display size of a picture.
    metadata: serde_json::Map<String, serde_json::Value>,
}

/// Evaluates a cell, or answers a question such as `?name`.
fn run(session: &mut Session, code: &str, name: &str) -> Result<Option<Answer>> {
    if let Some(name) = question(code) {
        let answer = if name.is_empty() { None } else { Some(session.about(name)?) };
        let text = answer.as_ref().map_or_else(|| session.help().list(), ToString::to_string);
        return Ok(Some(Answer { data: about(answer, text.clone()), text, metadata: Default::default() }));
    }
    // Other kernels and the prompt accept these, but rhai never does.
    if code.trim_start().starts_with(['%', ':']) {
        let line = code.trim_start().lines().next().unwrap_or_default();
        return Err(Error::invalid("the cell", "a rhai script", format!("`{line}`")).with_hint(
            "`%` magics are only for IPython and `:` commands only for the prompt; `?name` works here too",
        ));
    }
    let Some(bundle) = session.eval_named(name, 1, code)? else { return Ok(None) };
    let (data, metadata) = media(&bundle)?;
    Ok(Some(Answer { text: bundle.text, data, metadata }))
}

/// The values of the `user_expressions` of a request, with JSON.
fn expressions(session: &mut Session, all: &HashMap<String, String>) -> HashMap<String, ExpressionResult> {
    let mut value = |script: &String| {
        let value = session.eval(script).and_then(|value| data(&value.unwrap_or_default()));
        match value {
            Ok(data) => ExpressionResult::Ok { data, metadata: Default::default() },
            Err(error) => {
                let ErrorOutput { ename, evalue, traceback } = error_output(&error);
                ExpressionResult::Error { ename, evalue, traceback }
            }
        }
    };
    all.iter().map(|(name, script)| (name.clone(), value(script))).collect()
}

fn reply_error(ErrorOutput { ename, evalue, traceback }: &ErrorOutput) -> ReplyError {
    ReplyError { ename: ename.clone(), evalue: evalue.clone(), traceback: traceback.clone() }
}

fn complete(session: &Session, request: &CompleteRequest) -> CompleteReply {
    let code = &request.code;
    let found = session.complete(code, byte_of(code, request.cursor_pos));
    let (cursor_start, cursor_end) = (char_of(code, found.start), char_of(code, found.end));
    let types: Vec<_> = found
        .completions
        .iter()
        .map(|completion| {
            json!({
                "text": completion.text,
                "type": completion.kind.name(),
                "signature": completion.detail,
                "start": cursor_start,
                "end": cursor_end,
            })
        })
        .collect();
    let metadata = [("_jupyter_types_experimental".to_owned(), types.into())].into_iter().collect();
    let matches = found.completions.into_iter().map(|completion| completion.text).collect();
    CompleteReply { matches, cursor_start, cursor_end, metadata, ..Default::default() }
}

fn inspect(session: &Session, request: &InspectRequest) -> InspectReply {
    match session.inspect(&request.code, byte_of(&request.code, request.cursor_pos)) {
        Some(found) => {
            let text = found.to_string();
            InspectReply { found: true, data: about(Some(found), text), ..Default::default() }
        }
        None => InspectReply::default(),
    }
}

fn is_complete(session: &Session, code: &str) -> IsCompleteReply {
    if question(code).is_some() {
        return IsCompleteReply::complete();
    }
    match session.completeness(code) {
        Completeness::Complete => IsCompleteReply::complete(),
        Completeness::Incomplete { depth } => IsCompleteReply::incomplete("    ".repeat(depth)),
        Completeness::Invalid => IsCompleteReply::invalid(),
    }
}

/// The name, version and language of this kernel.
pub(super) fn kernel_info() -> KernelInfoReply {
    let version = env!("CARGO_PKG_VERSION");
    KernelInfoReply {
        status: ReplyStatus::Ok,
        protocol_version: "5.4".to_owned(),
        implementation: "saescope".to_owned(),
        implementation_version: version.to_owned(),
        language_info: LanguageInfo {
            name: "rhai".to_owned(),
            version: "1".to_owned(),
            mimetype: Some("text/x-rhai".to_owned()),
            file_extension: Some(".rhai".to_owned()),
            // Front ends that do not know rhai highlight it as a similar language.
            pygments_lexer: Some("rust".to_owned()),
            codemirror_mode: Some(CodeMirrorMode::Simple("javascript".to_owned())),
            nbconvert_exporter: Some("script".to_owned()),
        },
        banner: format!("saescope {version}: models, sparse autoencoders and their features, in rhai"),
        help_links: vec![HelpLink {
            text: "The rhai language".to_owned(),
            url: "https://rhai.rs/book/language".to_owned(),
        }],
        debugger: false,
        error: None,
    }
}

/// The error reply to a malformed or unknown request, so that its sender does not wait. `None` if it is not a request.
pub(super) fn not_understood(msg_type: &str) -> Option<UnknownMessage> {
    failed(msg_type, &format!("this kernel cannot handle this message of type {msg_type}"))
}

/// The error reply to a request. `None` if it is not a request.
fn failed(msg_type: &str, why: &str) -> Option<UnknownMessage> {
    let kind = msg_type.strip_suffix("_request")?;
    let content = json!({ "status": "error", "ename": "Error", "evalue": why, "traceback": [] });
    Some(UnknownMessage { msg_type: format!("{kind}_reply"), content })
}

/// The byte offset of a character offset, which is what Jupyter counts in.
fn byte_of(text: &str, chars: usize) -> usize {
    text.char_indices().nth(chars).map_or(text.len(), |(byte, _)| byte)
}

/// The character offset of a byte offset.
fn char_of(text: &str, byte: usize) -> usize {
    text.get(..byte).map_or(0, |before| before.chars().count())
}
