//! The client for the hub: its address and the token.

use super::settings::HubSettings;
use crate::error::{Error, Result};
use crate::http::{Client, ClientOptions, Origin, Secret};

/// The headers in which the hub describes a file before it redirects to where the file is stored.
const FILE_HEADERS: [&str; 3] = ["x-repo-commit", "x-linked-etag", "x-linked-size"];

/// Creates the client for the hub of `settings` without sending anything.
pub(super) fn client(settings: &HubSettings) -> Result<Client> {
    let Some(origin) = Origin::parse(&settings.endpoint) else {
        let expected = "an address such as `https://huggingface.co`";
        return Err(Error::invalid("HF_ENDPOINT", expected, "something else"));
    };
    let secret = settings.token.as_ref().map(|token| {
        Secret::bearer(token).ok_or_else(|| {
            Error::invalid("the token for the hub", "letters, digits and `_`", "other characters")
                .with_hint("check HF_TOKEN, or log in again with `hf auth login`")
        })
    });
    Client::new(ClientOptions {
        server: "the hub",
        origin,
        secret: secret.transpose()?,
        certificates: settings.certificates.clone(),
        retry: settings.retry.clone(),
        kept_headers: &FILE_HEADERS,
    })
}
