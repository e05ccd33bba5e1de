//! What is answered at once, whatever the session does: interrupts, shutdowns, and what the kernel is.

use super::shell::{Shell, kernel_info, not_understood};
use jupyter_protocol::{
    Header, InterruptReply, JupyterMessage, JupyterMessageContent, ReplyStatus, ShutdownReply,
};

/// The control channel. Clones are the same.
#[derive(Clone)]
pub(super) struct Control {
    shell: Shell,
    /// The header of what the kernel said first.
    started: Header,
}

impl Control {
    pub(super) fn new(shell: Shell, started: Header) -> Self {
        Control { shell, started }
    }

    /// The answer to an interrupt or a shutdown; front ends of old send these to the shell socket too.
    pub(super) fn urgent(&self, message: &JupyterMessage) -> Option<JupyterMessageContent> {
        // Meant for a kernel that listened at these ports before and is dead: a front end that restarts it tells it to end.
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

    /// The answer to any request at the control socket.
    pub(super) fn answer(&self, message: &JupyterMessage) -> Option<JupyterMessageContent> {
        self.urgent(message).or_else(|| match &message.content {
            JupyterMessageContent::KernelInfoRequest(_) => Some(kernel_info().into()),
            _ => not_understood(&message.header.msg_type).map(Into::into),
        })
    }
}
