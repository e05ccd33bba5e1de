//! The control channel: answers interrupts, shutdowns and kernel info at once, even while the session is busy.

use super::shell::{Shell, kernel_info, not_understood};
use jupyter_protocol::{
    Header, InterruptReply, JupyterMessage, JupyterMessageContent, ReplyStatus, ShutdownReply,
};

/// The control channel. Clones share the state.
#[derive(Clone)]
pub(super) struct Control {
    shell: Shell,
    /// The header of the kernel's first message.
    started: Header,
}

impl Control {
    pub(super) fn new(shell: Shell, started: Header) -> Self {
        Control { shell, started }
    }

    /// Handles an interrupt or shutdown and returns the reply. Old front ends also send these to the shell socket.
    pub(super) fn urgent(&self, message: &JupyterMessage) -> Option<JupyterMessageContent> {
        // Meant for an earlier kernel on these ports: a front end that restarts a dead kernel first tells it to end.
        if message.header.date < self.started.date {
            return None;
        }
        match &message.content {
            JupyterMessageContent::InterruptRequest(_) => {
                self.shell.interrupt();
                Some(InterruptReply::default().into())
            }
            JupyterMessageContent::ShutdownRequest(request) => {
                self.shell.close();
                let (restart, status) = (request.restart, ReplyStatus::Ok);
                Some(ShutdownReply { restart, status, error: None }.into())
            }
            _ => None,
        }
    }

    /// The reply to any request on the control socket.
    pub(super) fn answer(&self, message: &JupyterMessage) -> Option<JupyterMessageContent> {
        self.urgent(message).or_else(|| match &message.content {
            JupyterMessageContent::KernelInfoRequest(_) => Some(kernel_info().into()),
            _ => not_understood(&message.header.msg_type).map(Into::into),
        })
    }
}
