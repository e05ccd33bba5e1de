//! Where the hub is, where its files are kept, and who asks: the variables that Python's huggingface_hub reads.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Where the hub is, where its files are kept, and who asks.
#[derive(Clone, PartialEq)]
pub struct HubSettings {
    /// The address of the hub. Default: `HF_ENDPOINT`, else `https://huggingface.co`.
    pub endpoint: String,
    /// The folder with everything that was downloaded. Default: `HF_HUB_CACHE`, else `HF_HOME/hub`, else
    /// `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// Who asks. It is sent to the endpoint alone and never shown. Default: `HF_TOKEN`, else the file that
    /// `hf auth login` writes.
    pub token: Option<String>,
    /// Whether to use only what is in the cache. Default: `HF_HUB_OFFLINE`.
    pub offline: bool,
    /// The certificates to trust, in a PEM file, where a company's proxy reads along. Default: `SSL_CERT_FILE`, else
    /// `REQUESTS_CA_BUNDLE`, else those that browsers trust.
    pub certificates: Option<PathBuf>,
    /// How long to wait, and how often to try.
    pub patience: Patience,
}

/// How long to wait for the hub, and how often to try.
#[derive(Debug, Clone, PartialEq)]
pub struct Patience {
    /// How often something is tried before it counts as failed.
    pub tries: u32,
    /// The pause after the first try that failed; each one after it is twice as long.
    pub pause: Duration,
    /// The longest pause that the hub can ask for.
    pub longest_pause: Duration,
    /// How long a connection may say nothing before it counts as broken.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            tries: 5,
            pause: Duration::from_millis(500),
            // The hub counts requests in windows of five minutes.
            longest_pause: Duration::from_secs(310),
            silence: Duration::from_secs(15),
        }
    }
}

impl HubSettings {
    /// The settings that the environment asks for.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// The settings that these variables ask for. An empty variable counts as one that is not there.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let get = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| get(name).map(|value| value.to_string_lossy().into_owned());
        let user = || get("HOME").map(PathBuf::from).or_else(std::env::home_dir).unwrap_or_default();
        let path = |name: &str| {
            let path = PathBuf::from(get(name)?);
            Some(path.strip_prefix("~").map(|below| user().join(below)).unwrap_or(path))
        };
        let yes = |name: &str| {
            text(name)
                .is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()))
        };

        let home = path("HF_HOME").unwrap_or_else(|| {
            let caches = path("XDG_CACHE_HOME").unwrap_or_else(|| user().join(".cache"));
            caches.join("huggingface")
        });
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let clean = |token: String| Some(token.trim().to_owned()).filter(|token| !token.is_empty());
        let stored = || {
            let file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
            std::fs::read_to_string(file).ok().and_then(clean)
        };
        let given = text("HF_TOKEN").and_then(clean);
        let token = given.or_else(|| text("HUGGING_FACE_HUB_TOKEN").and_then(clean)).or_else(stored);
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        HubSettings {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: cache.unwrap_or_else(|| home.join("hub")),
            token: token.filter(|_| !yes("HF_HUB_DISABLE_IMPLICIT_TOKEN")),
            offline: if text("HF_HUB_OFFLINE").is_some() {
                yes("HF_HUB_OFFLINE")
            } else {
                yes("TRANSFORMERS_OFFLINE")
            },
            certificates: path("SSL_CERT_FILE").or_else(|| path("REQUESTS_CA_BUNDLE")),
            patience: Patience::default(),
        }
    }
}

impl std::fmt::Debug for HubSettings {
    /// Everything but the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubSettings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}
