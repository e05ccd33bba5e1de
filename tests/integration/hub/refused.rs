//! Requests that the hub refuses, answers that the client refuses, and where the token goes.

use super::*;
use crate::hub::server::Fault;

const TOKEN: &str = "hf_canary0123456789canary0123456789";

fn refused(headers: &[(&'static str, &str)], status: u16, token: Option<&str>) -> String {
    let (hub, cache) = setting();
    let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    hub.fault("/api/", 1, Fault::Status(status, headers));
    let mut settings = hub.settings(cache.path());
    settings.token = token.map(str::to_owned);
    let error = text(open(&settings).unwrap_err());
    assert_eq!(hub.requests().len(), 1, "a second request after {status}");
    assert!(error.starts_with("model `owner/name`: ") && !error.contains("canary"), "{error}");
    error
}

#[test]
fn a_gated_repository_says_how_to_get_access() {
    let (hub, cache) = setting();
    hub.gate(RepoKind::Model, "owner/name", TOKEN);
    let mut settings = hub.settings(cache.path());
    let page = format!("{}/owner/name", hub.endpoint());
    let repo = open(&settings).unwrap();
    let error = text(file(&repo, "config.json").unwrap_err());
    for part in ["it is gated", &format!("ask for access at {page}"), "HF_TOKEN", "`hf auth login`"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    settings.token = Some("hf_of_somebody_else".to_owned());
    let error = text(file(&open(&settings).unwrap(), "config.json").unwrap_err());
    assert!(error.contains("the account of the token has no access") && error.contains(&page), "{error}");
    settings.token = Some(TOKEN.to_owned());
    assert_eq!(contents(&open(&settings).unwrap(), "config.json"), b"{\"a\": 1}");
    assert_eq!(contents(&open(&settings).unwrap(), "model.safetensors"), b"large file");
}

#[test]
fn missing_private_and_forbidden_repositories_are_distinguished() {
    let error = refused(&[("x-error-code", "RepoNotFound")], 404, Some(TOKEN));
    assert!(error.contains("no such repository") && error.contains("no folder of that name"), "{error}");
    let error = refused(&[], 401, None);
    assert!(error.contains("no such repository, or it is private") && error.contains("HF_TOKEN"), "{error}");
    let error =
        refused(&[("x-error-message", "Invalid credentials in Authorization header")], 401, Some(TOKEN));
    assert!(error.contains("does not accept the token"), "{error}");
    let error = refused(&[("x-error-code", "RevisionNotFound")], 404, None);
    assert!(error.contains("no revision `main`") && error.contains("/commits/main"), "{error}");
    let error = refused(&[("x-error-message", "Access to this\tresource is disabled.")], 403, None);
    assert!(error.contains("the hub forbids it: Access to thisresource is disabled."), "{error}");
    let error = refused(&[], 451, None);
    assert!(error.contains("451 (Unavailable For Legal Reasons)"), "{error}");
}

#[test]
fn callers_can_tell_missing_from_unreachable() {
    let (hub, cache) = setting();
    let settings = hub.settings(cache.path());
    let repo = open(&settings).unwrap();
    assert!(file(&repo, "nothing.json").unwrap_err().is_not_found());
    let open_as = |settings: &HubSettings, id: &str, revision: Option<&str>| {
        Repo::hub_with(settings, RepoKind::Model, id, revision, &Progress::default()).unwrap_err()
    };
    assert!(open_as(&settings, "owner/other", None).is_not_found());
    assert!(open_as(&settings, "owner/name", Some("other")).is_not_found());
    hub.fault("/api/", 1, Fault::Status(403, vec![]));
    let forbidden = open_as(&settings, "owner/name", None);
    assert!(!forbidden.is_not_found() && !forbidden.is_offline(), "{forbidden}");
    let offline = HubSettings { offline: true, ..settings.clone() };
    assert!(open_as(&offline, "owner/other", None).is_offline());
    hub.stop();
    assert!(open_as(&settings, "owner/other", None).is_offline());
}

#[test]
fn a_missing_file_suggests_a_similar_name() {
    let (hub, cache) = setting();
    let repo = open(&hub.settings(cache.path())).unwrap();
    let asked = hub.requests().len();
    let error = text(file(&repo, "confg.json").unwrap_err());
    assert!(
        error.contains("no file `confg.json`") && error.contains("did you mean `config.json`?"),
        "{error}"
    );
    assert_eq!(hub.requests().len(), asked);
    // Without a listing the hub is asked.
    let commit = repo.revision().unwrap().to_owned();
    let repo = Repo::hub_with(
        &hub.settings(cache.path()),
        RepoKind::Model,
        "owner/name",
        Some(&commit),
        &Progress::default(),
    );
    let repo = repo.unwrap();
    let error = text(file(&repo, "confg.json").unwrap_err());
    assert!(error.contains("no file `confg.json`") && error.contains(&format!("/tree/{commit}")), "{error}");
    assert!(!repo.has("confg.json", &Progress::default()).unwrap());
    assert!(repo.has("config.json", &Progress::default()).unwrap());
    let unknown = "0".repeat(40);
    let repo = Repo::hub_with(
        &hub.settings(cache.path()),
        RepoKind::Model,
        "owner/name",
        Some(&unknown),
        &Progress::default(),
    );
    let error = text(file(&repo.unwrap(), "config.json").unwrap_err());
    assert!(error.contains(&format!("no revision `{unknown}`")), "{error}");
}

#[test]
fn names_outside_the_repository_are_refused_before_any_request() {
    let (hub, cache) = setting();
    let settings = hub.settings(cache.path());
    let open = |id: &str, revision: Option<&str>| {
        Repo::hub_with(&settings, RepoKind::Model, id, revision, &Progress::default())
    };
    for bad in
        ["../name", "owner/..", "owner/name/more", "/etc", "owner\\name", "", "owner/na me", "a--b/c", "C:/x"]
    {
        assert!(matches!(open(bad, None), Err(Error::Invalid { .. })), "{bad}");
    }
    for bad in ["", "..", "../../x", "/main", "a b", "a\0b", "refs//x", "main/"] {
        assert!(matches!(open("owner/name", Some(bad)), Err(Error::Invalid { .. })), "{bad:?}");
    }
    assert!(hub.requests().is_empty());
    let repo = open("owner/name", None).unwrap();
    for bad in ["../config.json", "/etc/passwd", "a/../../b", "a//b", "C:\\x", "a\\b", "", ".", "a\0b", "x/"]
    {
        assert!(matches!(file(&repo, bad), Err(Error::Invalid { .. })), "{bad:?}");
        assert!(repo.has(bad, &Progress::default()).is_err(), "{bad:?}");
    }
    assert_eq!(hub.requests().len(), 1);
}

#[test]
fn listed_names_outside_the_repository_are_left_out() {
    let (hub, cache) = setting();
    for bad in ["../../evil", "/etc/passwd", "a\\b", "a/./b"] {
        hub.list_only(RepoKind::Model, "owner/name", bad);
    }
    let (progress, reports) = listening();
    let settings = hub.settings(cache.path());
    let repo = Repo::hub_with(&settings, RepoKind::Model, "owner/name", None, &progress).unwrap();
    assert_eq!(repo.names(&progress).unwrap(), FILES.map(|(name, _)| name));
    assert_eq!(
        warnings(&reports),
        ["model `owner/name`: ignored 4 names in its listing that are not paths below it"]
    );
}

#[test]
fn unsafe_headers_are_refused() {
    let commit = "0".repeat(40);
    let cases = [
        ("etag", "\"../../../evil\"", "ETag"),
        ("etag", "\"/tmp/evil\"", "ETag"),
        ("etag", "\"\"", "ETag"),
        ("x-linked-etag", "\"..\"", "ETag"),
        ("x-repo-commit", "../../evil", "commit"),
        ("x-repo-commit", "main", "commit"),
        ("x-repo-commit", &commit, "expected `config.json` of commit"),
    ];
    for (name, value, expected) in cases {
        let (hub, cache) = setting();
        let repo = open(&hub.settings(cache.path())).unwrap();
        hub.fault("HEAD config.json", 1, Fault::Headers(vec![(name, value.to_owned())]));
        let error = text(file(&repo, "config.json").unwrap_err());
        assert!(error.contains(expected), "{name} {value}: {error}");
        assert_eq!(tree(cache.path()).len(), 1, "{name} {value}");
    }
}

#[test]
fn an_answer_that_is_not_a_hubs_is_refused() {
    let (hub, cache) = setting();
    let settings = hub.settings(cache.path());
    let bodies = ["<html>log in to the network</html>", "{\"sha\": \"../..\"}", "{\"sha\": 5}", ""];
    for body in bodies {
        hub.fault("/api/", 1, Fault::Body(body.as_bytes().to_vec()));
        let error = text(open(&settings).unwrap_err());
        assert!(error.contains("not that of a hub") && error.contains("HF_ENDPOINT"), "{body}: {error}");
    }
    hub.fault("/api/", 1, Fault::Body(vec![b' '; (64 << 20) + 1]));
    let error = text(open(&settings).unwrap_err());
    assert!(error.contains("larger than 67108864 bytes"), "{error}");
    // An earlier commit in the cache is still used.
    let commit = open(&settings).unwrap().revision().unwrap().to_owned();
    hub.fault("/api/", 1, Fault::Body(b"<html>".to_vec()));
    assert_eq!(open(&settings).unwrap().revision(), Some(commit.as_str()));
}

#[test]
fn a_renamed_repository_is_found() {
    let (hub, cache) = (Hub::start(), tempfile::tempdir().unwrap());
    hub.serve(RepoKind::Model, "new/name", &FILES);
    hub.gate(RepoKind::Model, "new/name", TOKEN);
    hub.rename("owner/name", "new/name");
    let mut settings = hub.settings(cache.path());
    settings.token = Some(TOKEN.to_owned());
    let repo = open(&settings).unwrap();
    for (name, bytes) in FILES {
        assert_eq!(contents(&repo, name), bytes);
    }
    assert!(cache.path().join("models--owner--name/refs/main").is_file());
}

#[test]
fn endless_and_invalid_redirects_are_errors() {
    let (hub, cache) = setting();
    let settings = hub.settings(cache.path());
    hub.rename("owner/name", "owner/name");
    let error = text(open(&settings).unwrap_err());
    assert!(error.contains("redirects"), "{error}");
    for bad in ["", "elsewhere", "file:///etc/passwd", "http://", "http://exa mple/"] {
        let (hub, cache) = setting();
        hub.fault("/api/", 9, Fault::Status(302, vec![("location", bad.to_owned())]));
        let error = text(open(&hub.settings(cache.path())).unwrap_err());
        assert!(error.contains("cannot be followed"), "{bad}: {error}");
    }
}

/// The token goes to the hub and nowhere else: not to another port, not to another name of the same machine, not into
/// files, errors, reports or the output of `Debug`.
#[test]
fn only_the_hub_sees_the_token() {
    let (hub, cache) = setting();
    let mut settings = hub.settings(cache.path());
    settings.token = Some(TOKEN.to_owned());
    let (progress, reports) = listening();
    let repo = Repo::hub_with(&settings, RepoKind::Model, "owner/name", None, &progress).unwrap();
    repo.file("model.safetensors", &progress).unwrap();
    hub.move_cdn(&format!("http://localhost:{}", hub.port()));
    hub.fault("GET /cdn/ x", 1, Fault::Cut(3));
    repo.file("sae 1/x%2e.npz", &progress).unwrap();

    let mut seen = 0;
    for request in hub.requests() {
        let at_hub = !request.path.starts_with("/cdn/");
        assert_eq!(request.headers.contains_key("authorization"), at_hub, "{request:?}");
        assert!(!request.path.contains("canary"));
        seen += usize::from(!at_hub);
    }
    assert_eq!(seen, 3);

    let mut said = vec![format!("{repo:?} {settings:?} {reports:?}")];
    for status in [400, 401, 403, 404, 429, 500] {
        for headers in [vec![], vec![("x-error-code", "GatedRepo".to_owned())]] {
            hub.fault("HEAD config.json", 3, Fault::Status(status, headers));
            let error = repo.file("config.json", &progress).unwrap_err();
            said.extend([format!("{error:?}"), text(error)]);
            // Use up the remaining faults.
            while repo.file("config.json", &progress).is_err() {}
            std::fs::remove_file(repo.file("config.json", &progress).unwrap()).unwrap();
        }
    }
    hub.stop();
    said.push(text(open(&HubSettings { cache: "/nowhere".into(), ..settings.clone() }).unwrap_err()));
    said.push(text(open(&HubSettings { endpoint: "nothing".to_owned(), ..settings.clone() }).unwrap_err()));
    let strange = format!("{TOKEN}\n\u{1}");
    said.push(text(open(&HubSettings { token: Some(strange), ..settings.clone() }).unwrap_err()));
    said.push(format!("{:?}", reports.lock().unwrap()));
    for text in said {
        assert!(!text.contains("canary") && !text.contains("signature=secret"), "{text}");
    }
    for (name, bytes) in tree(cache.path()) {
        assert!(!name.contains("canary") && !String::from_utf8_lossy(&bytes).contains("canary"), "{name}");
    }
}
