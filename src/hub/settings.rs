//! Settings of the hub: address, cache, token and retries, from the variables that Python's huggingface_hub reads.

use crate::files;
use crate::http::RetryPolicy;
use std::ffi::OsString;
use std::path::PathBuf;

/// The hub's address, the cache, the token, and retries.
#[derive(Clone, PartialEq)]
pub struct HubSettings {
    /// The address of the hub. Default: `HF_ENDPOINT`, else `https://huggingface.co`.
    pub endpoint: String,
    /// The folder of downloaded files. Default: `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// The access token, sent only to the endpoint and never shown. Default: `HF_TOKEN`, else the file written by
    /// `hf auth login`.
    pub token: Option<String>,
    /// Whether to use only what is in the cache. Default: `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// The certificates to trust, in a PEM file, for a company's proxy that reads the traffic. Default:
    /// `SSL_CERT_FILE`, else `REQUESTS_CA_BUNDLE`, else those that browsers trust.
    pub certificates: Option<PathBuf>,
    /// Timeouts and retries.
    pub retry: RetryPolicy,
}

impl HubSettings {
    /// Returns the settings of the environment.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// Returns the settings of these variables. An empty variable counts as unset. In paths, `~` and other variables
    /// (`$VAR`, `${VAR}`) are replaced, as in huggingface_hub.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| get(name).map(|value| value.to_string_lossy().into_owned());
        let user = || get("HOME").map(PathBuf::from).or_else(std::env::home_dir).unwrap_or_default();
        let expanded = |path: PathBuf| {
            let path = with_home(path, user);
            match path.to_str() {
                Some(path) if path.contains('$') => PathBuf::from(with_variables(path, &variable)),
                _ => path,
            }
        };
        let raw = |name: &str| get(name).map(PathBuf::from);
        let path = |name: &str| raw(name).map(expanded);
        let yes = |name: &str| {
            text(name)
                .is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()))
        };

        let home = expanded(raw("HF_HOME").unwrap_or_else(|| {
            let caches = raw("XDG_CACHE_HOME").unwrap_or_else(|| user().join(".cache"));
            caches.join("huggingface")
        }));
        // A derived path is expanded again.
        let cache = raw("HF_HUB_CACHE").or_else(|| raw("HUGGINGFACE_HUB_CACHE"));
        let cache = expanded(cache.unwrap_or_else(|| home.join("hub")));
        let clean = |token: String| Some(token.trim().to_owned()).filter(|token| !token.is_empty());
        let stored = || {
            let file = expanded(raw("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token")));
            files::read(&file).ok().and_then(|bytes| String::from_utf8(bytes).ok()).and_then(clean)
        };
        let given = text("HF_TOKEN").and_then(clean);
        let token = given.or_else(|| text("HUGGING_FACE_HUB_TOKEN").and_then(clean)).or_else(stored);
        let offline =
            if text("HF_HUB_OFFLINE").is_some() { "HF_HUB_OFFLINE" } else { "TRANSFORMERS_OFFLINE" };
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        HubSettings {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token: token.filter(|_| !yes("HF_HUB_DISABLE_IMPLICIT_TOKEN")),
            offline: yes(offline),
            certificates: path("SSL_CERT_FILE").or_else(|| path("REQUESTS_CA_BUNDLE")),
            retry: RetryPolicy::default(),
        }
    }
}

/// Replaces a `~` at the start of a path with the home folder, and `~name` with that user's. As in Python, an unknown
/// name stays.
fn with_home(path: PathBuf, own: impl Fn() -> PathBuf) -> PathBuf {
    let first = path.components().next().and_then(|first| first.as_os_str().to_str());
    let Some(name) = first.and_then(|first| first.strip_prefix('~')) else { return path };
    let home = match name {
        "" => Some(own()),
        // name:password:uid:gid:comment:home:shell
        name => std::fs::read_to_string("/etc/passwd").ok().and_then(|users| {
            let mut users = users.lines().map(|line| line.split(':'));
            users.find_map(|mut user| {
                (user.next() == Some(name)).then(|| user.nth(4)).flatten().map(PathBuf::from)
            })
        }),
    };
    home.map_or_else(
        || path.clone(),
        |home| path.components().skip(1).fold(home, |home, part| home.join(part)),
    )
}

/// Replaces `$name` and `${name}` in a string with the values of variables. As in Python, unknown ones stay.
fn with_variables(text: &str, variable: impl Fn(&str) -> Option<OsString>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, from)) = rest.find('$').map(|at| rest.split_at(at)) {
        expanded += before;
        let after = &from[1..];
        let (name, length) = match after.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
            Some((name, _)) => (name, name.len() + 3),
            None => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                let name = &after[..after.find(|c| !is_part(c)).unwrap_or(after.len())];
                (name, name.len() + 1)
            }
        };
        let (reference, after) = from.split_at(length);
        match variable(name).filter(|_| !name.is_empty()) {
            Some(value) => expanded += &value.to_string_lossy(),
            None => expanded += reference,
        }
        rest = after;
    }
    expanded + rest
}

impl std::fmt::Debug for HubSettings {
    /// Formats everything but the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubSettings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}
