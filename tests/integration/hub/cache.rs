//! The cache: its layout, when the network is used, and the variables that configure it.

use super::*;
use crate::hub::server::{Fault, etag};
use crate::util::fixture;

#[test]
fn the_cache_has_the_layout_of_huggingface_hub() {
    let (hub, cache) = setting();
    let repo = open(&hub.settings(cache.path())).unwrap();
    assert_eq!((repo.name().as_str(), repo.is_local()), ("owner/name", false));
    let commit = repo.revision().unwrap().to_owned();
    let names = repo.names(&Progress::default()).unwrap();
    assert_eq!(names, ["config.json", "model.safetensors", "sae 1/x%2e.npz"]);
    for (name, bytes) in FILES {
        assert_eq!(contents(&repo, name), bytes);
    }
    let tags = FILES.map(|(name, bytes)| etag(name, bytes));
    let blob = |i: usize| (format!("models--owner--name/blobs/{}", tags[i]), FILES[i].1.to_vec());
    let link = |i: usize, up: &str| {
        let name = format!("models--owner--name/snapshots/{commit}/{}", FILES[i].0);
        (name, format!("{up}blobs/{}", tags[i]).into_bytes())
    };
    let lock = |i: usize| (format!(".locks/models--owner--name/{}.lock", tags[i]), Vec::new());
    let mut expected = vec![("models--owner--name/refs/main".to_owned(), commit.clone().into_bytes())];
    expected.extend((0..3).flat_map(|i| [blob(i), lock(i)]));
    expected.extend([link(0, "../../"), link(1, "../../"), link(2, "../../../")]);
    expected.sort();
    assert_eq!(tree(cache.path()), expected);
}

#[test]
fn a_served_folder_is_downloaded_unchanged() {
    let folder = crate::util::tests_path("fixtures/datasets");
    let (hub, cache) = (Hub::start(), tempfile::tempdir().unwrap());
    hub.serve_folder(RepoKind::Dataset, "owner/name", &folder);
    let progress = Progress::default();
    let settings = hub.settings(cache.path());
    let repo = Repo::hub_with(&settings, RepoKind::Dataset, "owner/name", None, &progress).unwrap();
    let names = repo.names(&progress).unwrap();
    assert_eq!(names, Repo::local(&folder).names(&progress).unwrap());
    for name in names {
        assert_eq!(contents(&repo, &name), std::fs::read(folder.join(&name)).unwrap(), "{name}");
    }
}

#[test]
fn datasets_have_their_own_urls_and_folders() {
    let (hub, cache) = (Hub::start(), tempfile::tempdir().unwrap());
    hub.serve(RepoKind::Dataset, "owner/name", &[("data/train.parquet", b"rows"), ("README.md", b"text")]);
    hub.serve(RepoKind::Model, "gpt2", &[("config.json", b"bare")]);
    let settings = hub.settings(cache.path());
    let dataset =
        Repo::hub_with(&settings, RepoKind::Dataset, "owner/name", None, &Progress::default()).unwrap();
    assert_eq!(contents(&dataset, "data/train.parquet"), b"rows");
    assert_eq!(contents(&dataset, "README.md"), b"text");
    assert!(cache.path().join("datasets--owner--name/refs/main").is_file());
    assert!(open(&settings).is_err());
    let bare = Repo::hub_with(&settings, RepoKind::Model, "gpt2", None, &Progress::default()).unwrap();
    assert_eq!(contents(&bare, "config.json"), b"bare");
    assert!(cache.path().join("models--gpt2/refs/main").is_file());
}

#[test]
fn a_cached_file_is_not_requested_again() {
    let (hub, cache) = setting();
    let settings = hub.settings(cache.path());
    let repo = open(&settings).unwrap();
    file(&repo, "config.json").unwrap();
    let asked = hub.requests().len();
    file(&repo, "config.json").unwrap();
    assert!(repo.has("config.json", &Progress::default()).unwrap());
    assert_eq!(hub.requests().len(), asked);
    // By its commit, not even the repository is requested.
    let commit = repo.revision();
    let again = Repo::hub_with(&settings, RepoKind::Model, "owner/name", commit, &Progress::default());
    assert_eq!(contents(&again.unwrap(), "config.json"), b"{\"a\": 1}");
    assert_eq!(hub.requests().len(), asked);
}

#[test]
fn a_moved_branch_brings_its_new_files() {
    let (hub, cache) = setting();
    let settings = hub.settings(cache.path());
    let old = open(&settings).unwrap();
    file(&old, "config.json").unwrap();
    file(&old, "model.safetensors").unwrap();
    let files: [(&str, &[u8]); 2] = [("config.json", b"{\"a\": 2}"), ("model.safetensors", b"large file")];
    let commit = hub.serve(RepoKind::Model, "owner/name", &files);
    let new = open(&settings).unwrap();
    assert_eq!(new.revision(), Some(commit.as_str()));
    assert_ne!(new.revision(), old.revision());
    assert_eq!(contents(&new, "config.json"), b"{\"a\": 2}");
    assert_eq!(contents(&old, "config.json"), b"{\"a\": 1}");
    // The weights are the same, and were not downloaded again.
    assert_eq!(contents(&new, "model.safetensors"), b"large file");
    assert_eq!(hub.count("GET /cdn/ model"), 1);
}

#[test]
fn tags_are_revisions() {
    let (hub, cache) = setting();
    let old = open(&hub.settings(cache.path())).unwrap().revision().unwrap().to_owned();
    hub.serve(RepoKind::Model, "owner/name", &[("config.json", b"new")]);
    hub.tag(RepoKind::Model, "owner/name", &old, "refs/pr/1");
    let settings = hub.settings(cache.path());
    let repo =
        Repo::hub_with(&settings, RepoKind::Model, "owner/name", Some("refs/pr/1"), &Progress::default());
    assert_eq!(repo.unwrap().revision(), Some(old.as_str()));
    let remembered = cache.path().join("models--owner--name/refs/refs/pr/1");
    assert_eq!(std::fs::read_to_string(remembered).unwrap(), old);
}

#[test]
fn without_the_hub_the_cache_is_used_with_a_warning() {
    let (hub, cache) = setting();
    let settings = hub.settings(cache.path());
    let commit = open(&settings).unwrap().revision().unwrap().to_owned();
    let path = file(&open(&settings).unwrap(), "config.json").unwrap();
    hub.fault("/api/", 2, Fault::Status(503, vec![]));
    let check = |settings: &HubSettings| {
        let (progress, reports) = listening();
        let repo = Repo::hub_with(settings, RepoKind::Model, "owner/name", None, &progress).unwrap();
        assert_eq!(repo.revision(), Some(commit.as_str()));
        assert_eq!(repo.file("config.json", &progress).unwrap(), path);
        assert_eq!(repo.names(&progress).unwrap(), ["config.json"]);
        assert!(!repo.has("model.safetensors", &progress).unwrap());
        let warnings = warnings(&reports);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(&commit) && warnings[0].contains("model `owner/name`"), "{warnings:?}");
        repo
    };
    check(&settings);
    hub.stop();
    let repo = check(&settings);
    let error = text(file(&repo, "model.safetensors").unwrap_err());
    assert!(error.contains("owner/name") && error.contains("127.0.0.1"), "{error}");
    let other = Repo::hub_with(&settings, RepoKind::Model, "owner/name", Some("v2"), &Progress::default());
    let error = text(other.unwrap_err());
    assert!(error.contains("HF_ENDPOINT"), "{error}");
}

#[test]
fn offline_only_the_cache_is_used() {
    let (hub, cache) = setting();
    let mut settings = hub.settings(cache.path());
    let repo = open(&settings).unwrap();
    let path = file(&repo, "config.json").unwrap();
    let commit = repo.revision().unwrap().to_owned();
    let asked = hub.requests().len();
    settings.offline = true;
    for revision in [None, Some(commit.as_str())] {
        let repo = Repo::hub_with(&settings, RepoKind::Model, "owner/name", revision, &Progress::default());
        let repo = repo.unwrap();
        assert_eq!(file(&repo, "config.json").unwrap(), path);
        assert_eq!(repo.names(&Progress::default()).unwrap(), ["config.json"]);
        assert!(!repo.has("model.safetensors", &Progress::default()).unwrap());
        let error = text(file(&repo, "model.safetensors").unwrap_err());
        for part in ["owner/name", "model.safetensors", revision.unwrap_or("main"), "HF_HUB_OFFLINE"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(error.contains(&*cache.path().to_string_lossy()), "{error}");
    }
    let other = Repo::hub_with(&settings, RepoKind::Model, "other/name", None, &Progress::default());
    assert!(text(other.unwrap_err()).contains("HF_HUB_OFFLINE"));
    assert_eq!(hub.requests().len(), asked);
}

#[test]
fn a_cache_filled_by_huggingface_hub_is_used() {
    // The layout of huggingface_hub, with links or, on systems without links, files.
    let cache = tempfile::tempdir().unwrap();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let root = cache.path().join("models--owner--name");
    for folder in ["blobs", "refs", &format!("snapshots/{commit}/sub")] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::write(root.join("refs/main"), commit).unwrap();
    std::fs::write(root.join(format!("snapshots/{commit}/config.json")), "{}").unwrap();
    std::fs::write(root.join("blobs/some-etag"), "weights").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(
        "../../../blobs/some-etag",
        root.join(format!("snapshots/{commit}/sub/model.safetensors")),
    )
    .unwrap();
    let mut settings = HubSettings::from_variables(|_| None);
    (settings.cache, settings.offline) = (cache.path().to_owned(), true);
    let repo = open(&settings).unwrap();
    assert_eq!(contents(&repo, "config.json"), b"{}");
    #[cfg(unix)]
    assert_eq!(contents(&repo, "sub/model.safetensors"), b"weights");
    #[cfg(unix)]
    assert_eq!(repo.names(&Progress::default()).unwrap(), ["config.json", "sub/model.safetensors"]);
}

/// A cache may hold only part of a repository, and offline there is no listing of the rest.
#[test]
fn errors_name_the_file_that_the_cache_lacks() {
    let cache = tempfile::tempdir().unwrap();
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let fill = |kind: &str, files: &[(&str, &str)]| {
        let root = cache.path().join(format!("{kind}s--owner--name"));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(root.join("refs")).unwrap();
        std::fs::write(root.join("refs/main"), commit).unwrap();
        for (name, content) in files {
            let path = root.join("snapshots").join(commit).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    };
    let run = |line: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_saescope"));
        command.env("HF_HUB_CACHE", cache.path()).env("HF_HUB_OFFLINE", "1").args(["eval", line]);
        let output = command.output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let model = std::fs::read_to_string(fixture("models/tiny/config.json")).unwrap();
    let weights = std::fs::read(fixture("models/tiny/model.safetensors")).unwrap();
    let load = "print(load_model(\"owner/name\"))";
    fill("model", &[("tokenizer.json", "{}")]);
    assert!(run(load).contains("`config.json` at the revision `main` is not in the cache"), "{}", run(load));
    fill("model", &[("config.json", &model)]);
    assert!(run(load).contains("`model.safetensors` at the revision"), "{}", run(load));
    fill("model", &[("config.json", &model)]);
    let snapshot = cache.path().join("models--owner--name/snapshots").join(commit);
    std::fs::write(snapshot.join("model.safetensors"), weights).unwrap();
    assert!(
        run(load).contains("`tokenizer.json` at the revision `main` is not in the cache"),
        "{}",
        run(load)
    );

    let load = "load_sae(\"owner/name\", \"x\")";
    fill("model", &[("x/cfg.json", "{}")]);
    assert!(run(load).contains("`x/sae_weights.safetensors` at the revision"), "{}", run(load));
    fill("model", &[("x/ae.pt", "")]);
    assert!(run(load).contains("`x/config.json` at the revision"), "{}", run(load));
    fill("model", &[("x/README.md", "")]);
    assert!(run(load).contains("`x/cfg.json` at the revision"), "{}", run(load));

    let load = "open_dataset(\"owner/name\")";
    fill(
        "dataset",
        &[("data/train-00000-of-00003-0f3a.parquet", ""), ("data/train-00002-of-00003-0f3b.parquet", "")],
    );
    let expected = "only 2 of 3 files are in the cache: `data/train-00001-of-00003…` is missing";
    assert!(run(load).contains(expected), "{}", run(load));
}

#[test]
fn a_reference_without_a_commit_is_ignored() {
    let cache = tempfile::tempdir().unwrap();
    let refs = cache.path().join("models--owner--name/refs");
    std::fs::create_dir_all(&refs).unwrap();
    let mut settings = HubSettings::from_variables(|_| None);
    (settings.cache, settings.offline) = (cache.path().to_owned(), true);
    for bad in ["", "../../..", "main"] {
        std::fs::write(refs.join("main"), bad).unwrap();
        assert!(open(&settings).is_err(), "{bad}");
    }
}

/// A named pipe, which would block its reader forever, is refused.
#[cfg(unix)]
#[test]
fn pipes_in_the_cache_are_refused() {
    let pipe = |path: &Path| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let cache = tempfile::tempdir().unwrap();
    pipe(&cache.path().join("models--owner--name/refs/main"));
    pipe(&cache.path().join("token"));
    let home = cache.path().as_os_str().to_owned();
    let mut settings = HubSettings::from_variables(|name| (name == "HF_HOME").then(|| home.clone()));
    assert_eq!(settings.token, None);
    (settings.cache, settings.offline) = (cache.path().to_owned(), true);
    assert!(text(open(&settings).unwrap_err()).contains("is not in the cache"));

    let (hub, cache) = setting();
    let lock = format!(".locks/models--owner--name/{}.lock", etag("model.safetensors", b"large file"));
    pipe(&cache.path().join(lock));
    let repo = open(&hub.settings(cache.path())).unwrap();
    let error = text(file(&repo, "model.safetensors").unwrap_err());
    assert!(error.contains("got a folder, pipe or device"), "{error}");
}

#[test]
fn a_broken_link_is_repaired() {
    let (hub, cache) = setting();
    let repo = open(&hub.settings(cache.path())).unwrap();
    let path = file(&repo, "model.safetensors").unwrap();
    std::fs::remove_file(path.canonicalize().unwrap()).unwrap();
    assert_eq!(contents(&repo, "model.safetensors"), b"large file");
}

#[test]
fn a_local_folder_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), "{}").unwrap();
    let name = folder.path().to_string_lossy().into_owned();
    let progress = Progress::default();
    let repo = Repo::open(RepoKind::Model, &name, None, &progress).unwrap();
    assert!(repo.is_local() && repo.revision().is_none() && repo.name() == name);
    assert!(repo.has("config.json", &progress).unwrap());
    for bad in ["../config.json", "/etc/passwd", "a/../../b", ""] {
        assert!(repo.file(bad, &progress).is_err() && repo.has(bad, &progress).is_err(), "{bad}");
    }
    let error = text(Repo::open(RepoKind::Model, &name, Some("main"), &progress).unwrap_err());
    assert!(error.contains("local folder"), "{error}");
    let file = folder.path().join("config.json").to_string_lossy().into_owned();
    let error = text(Repo::open(RepoKind::Model, &file, None, &progress).unwrap_err());
    assert!(error.contains("expected a folder"), "{error}");
    let error = text(Repo::open(RepoKind::Model, "./no/such/folder", None, &progress).unwrap_err());
    assert!(error.contains("expected a folder, or the name of a repository"), "{error}");
}

/// The settings of these variables, with `home` as the home folder.
fn read(home: &Path, variables: &[(&str, &str)]) -> HubSettings {
    let home = home.to_string_lossy();
    let variables = [variables, &[("HOME", &home)]].concat();
    HubSettings::from_variables(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| v.into()))
}

#[test]
fn the_cache_folder_is_that_of_huggingface_hub() {
    let folder = tempfile::tempdir().unwrap();
    let read = |variables: &[(&str, &str)]| read(folder.path(), variables);
    let plain = read(&[]);
    assert_eq!(plain.endpoint, "https://huggingface.co");
    assert_eq!(plain.cache, folder.path().join(".cache/huggingface/hub"));
    assert_eq!((plain.token.clone(), plain.offline), (None, false));
    let cache = |variables: &[(&str, &str)]| read(variables).cache;
    assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
    assert_eq!(cache(&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Path::new("/h/hub"));
    assert_eq!(cache(&[("HF_HOME", "~/h")]), folder.path().join("h/hub"));
    assert_eq!(cache(&[("HUGGINGFACE_HUB_CACHE", "/c"), ("HF_HOME", "/h")]), Path::new("/c"));
    assert_eq!(cache(&[("HF_HUB_CACHE", "/d"), ("HUGGINGFACE_HUB_CACHE", "/c")]), Path::new("/d"));
    // As huggingface_hub 1 expands them, with `A` and `B` set.
    let with = |variable: (&str, &str)| cache(&[variable, ("A", "/va"), ("B", "~/$A")]);
    for (name, value, expected) in [
        ("HF_HOME", "$A/home", "/va/home/hub"),
        ("HF_HOME", "${A}/home", "/va/home/hub"),
        ("HF_HOME", "~/x$A", "~/x/va/hub"),
        ("HF_HOME", "$B/h", "~/va/h/hub"),
        ("HF_HOME", "$HOME/h", "~/h/hub"),
        ("HF_HOME", "~", "~/hub"),
        ("HF_HOME", "$Aé", "/vaé/hub"),
        ("HF_HOME", "~nobody-of-that-name/h", "~nobody-of-that-name/h/hub"),
        ("HF_HUB_CACHE", "$NOPE/c", "$NOPE/c"),
        ("HF_HUB_CACHE", "${A}b$A-c", "/vab/va-c"),
        ("HF_HUB_CACHE", "$$A/${}/$", "$/va/${}/$"),
        ("HF_HUB_CACHE", "${A", "${A"),
        ("HF_HUB_CACHE", "$A/~", "/va/~"),
        ("HUGGINGFACE_HUB_CACHE", "~/$A", "~/va"),
        ("XDG_CACHE_HOME", "$A/x", "/va/x/huggingface/hub"),
    ] {
        let expected = expected.strip_prefix("~/").map_or(expected.into(), |below| folder.path().join(below));
        assert_eq!(with((name, value)), expected, "{name}={value}");
    }
    #[cfg(unix)]
    {
        // Another user's home.
        let users = std::fs::read_to_string("/etc/passwd").unwrap();
        let root = users.lines().find(|user| user.starts_with("root:")).unwrap();
        let home = Path::new(root.split(':').nth(5).unwrap());
        assert_eq!(cache(&[("HF_HUB_CACHE", "~root/c")]), home.join("c"));
    }
}

#[test]
fn the_endpoint_and_offline_mode_come_from_variables() {
    let folder = tempfile::tempdir().unwrap();
    let read = |variables: &[(&str, &str)]| read(folder.path(), variables);
    assert_eq!(read(&[("HF_ENDPOINT", "http://a:1/")]).endpoint, "http://a:1");
    assert_eq!(read(&[("HF_ENDPOINT", "")]).endpoint, "https://huggingface.co");
    for (value, offline) in
        [("1", true), ("on", true), ("Yes", true), ("TRUE", true), ("0", false), ("no", false)]
    {
        assert_eq!(read(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
    }
    assert!(read(&[("TRANSFORMERS_OFFLINE", "1")]).offline);
    for endpoint in ["huggingface.co", "ftp://a", "http://user:secret@a", "http://a?b", "x y"] {
        let error = text(open(&read(&[("HF_ENDPOINT", endpoint)])).unwrap_err());
        assert!(error.contains("HF_ENDPOINT") && !error.contains("secret"), "{error}");
    }
}

#[test]
fn the_token_is_that_of_huggingface_hub() {
    let folder = tempfile::tempdir().unwrap();
    let read = |variables: &[(&str, &str)]| read(folder.path(), variables);
    let token = |variables: &[(&str, &str)]| read(variables).token;
    assert_eq!(token(&[("HF_TOKEN", " abc\n")]).as_deref(), Some("abc"));
    std::fs::create_dir_all(folder.path().join(".cache/huggingface")).unwrap();
    std::fs::write(folder.path().join(".cache/huggingface/token"), "stored\n").unwrap();
    assert_eq!(token(&[]).as_deref(), Some("stored"));
    assert_eq!(token(&[("HF_TOKEN", "abc")]).as_deref(), Some("abc"));
    assert_eq!(token(&[("HF_HOME", "/nowhere")]), None);
    assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
    let other = folder.path().join("other");
    std::fs::write(&other, "elsewhere").unwrap();
    assert_eq!(token(&[("HF_TOKEN_PATH", &other.to_string_lossy())]).as_deref(), Some("elsewhere"));
    assert_eq!(token(&[("HF_TOKEN_PATH", "${HOME}/other")]).as_deref(), Some("elsewhere"));
    let shown = format!("{:?}", read(&[("HF_TOKEN", "hf_canary")]));
    assert!(!shown.contains("canary"), "{shown}");
    // A token that no header can hold is refused before any request.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    for bad in ["hf_é", "hf_\u{1F600}", "a b", "a\u{7f}b", "a\tb", "a\nb"] {
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let mut settings = read(&[("HF_TOKEN", bad), ("HF_ENDPOINT", &endpoint)]);
        settings.cache = folder.path().to_owned();
        let error = text(open(&settings).unwrap_err());
        assert!(error.contains("the token for the hub: expected letters") && !error.contains(bad), "{error}");
    }
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "there was a request");
}

#[test]
fn the_certificates_come_from_variables() {
    let folder = tempfile::tempdir().unwrap();
    let read = |variables: &[(&str, &str)]| read(folder.path(), variables);
    let other = folder.path().join("other");
    std::fs::write(&other, "not certificates").unwrap();
    let certificates = |variables: &[(&str, &str)]| read(variables).certificates;
    assert_eq!(certificates(&[("REQUESTS_CA_BUNDLE", "/r")]).as_deref(), Some(Path::new("/r")));
    assert_eq!(
        certificates(&[("REQUESTS_CA_BUNDLE", "/r"), ("SSL_CERT_FILE", "/s")]).unwrap(),
        Path::new("/s")
    );
    let mut settings = read(&[("SSL_CERT_FILE", &other.to_string_lossy())]);
    settings.cache = folder.path().to_owned();
    let error = text(open(&settings).unwrap_err());
    assert!(error.contains("expected certificates") && error.contains("SSL_CERT_FILE"), "{error}");
}
