//! The HTTP client: the only code that uses the network.
//!
//! A caller decides which server it asks, what the secret for that server is, how long a request may take
//! ([`RetryPolicy`]), and what a response means. The client does the rest: it follows redirects, shows the secret to
//! that server only, repeats a request after a failure that may pass, and stops when the user cancels.

mod client;
mod retry;

pub use retry::RetryPolicy;

pub(crate) use client::{Client, ClientOptions, Origin, Request, Response, Secret, status_text};
pub(crate) use retry::Attempts;

use crate::error::Error;

/// The reasons why a request fails.
pub(crate) enum RequestError {
    /// The server could not be reached or could not answer; a later attempt may succeed.
    Transient(String),
    /// Asking again would not help.
    Final(Error),
}

impl From<Error> for RequestError {
    fn from(error: Error) -> Self {
        RequestError::Final(error)
    }
}
