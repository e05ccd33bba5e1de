//! Limits on memory and time: the program ends with an error, or soon after a signal, and is never killed.

use crate::util::with_default_signals;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program in a shell that first runs `before`, such as a limit or a `trap`.
fn shell(folder: &Path, before: &str, arguments: &[&str]) -> Command {
    let mut command = with_default_signals("sh");
    let line = format!("{before}; exec '{}' \"$@\"", env!("CARGO_BIN_EXE_saescope"));
    command.args(["-c", &line, "sh"]).args(arguments).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails unless a script ends with an error that contains `expected`, under a limit of 3 GiB of address space.
#[cfg(target_os = "linux")]
#[track_caller]
fn is_refused(folder: &Path, script: &str, expected: &str) {
    let output = shell(folder, "ulimit -v 3145728", &["eval", script]).output().unwrap();
    let stderr = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{script}: {:?}, {stderr}", output.status.signal());
    assert!(stderr.starts_with("error: ") && stderr.contains(expected), "{script}: {stderr}");
}

#[cfg(target_os = "linux")]
#[test]
fn values_that_grow_without_end_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    // Which limit is reached first, that of values or of memory, depends on timing; both have this hint.
    let too_large = "keep numbers in tensors and many records in files";
    for script in [
        "let s = `xxxxxxxx`; loop { s += s; }",
        "let a = [1]; loop { a += a; }",
        "let a = [1]; loop { a = [a, a.map(|x| x)]; a += a; }",
        "let m = #{}; let i = 0; loop { m[`${i}`] = [0] + m.values(); i += 1; }",
        "let b = blob(8); loop { b += b; }",
        "let s = `ab`; loop { s.replace(`a`, `${s}`); }",
        "fn f() { loop { this += this; } } let t = [1]; t.f();",
        "let f = |x| x; let a = [0]; loop { a.push(a); }",
    ] {
        is_refused(folder.path(), script, too_large);
    }
    for (script, expected) in [
        ("let a = []; a.pad(1000000000, 0)", "at most 100000000"),
        ("let a = []; a.pad(90000000, [1, 2, 3])", too_large),
        ("blob(1 << 40)", "at most 100000000"),
        ("ones([1 << 20, 1 << 20])", "at most 1073741824 elements"),
        ("let a = []; loop { a.push(ones([1 << 26])); }", "memory"),
        ("let a = 0; loop { a = [a]; }", "nested at most 1000 deep"),
    ] {
        is_refused(folder.path(), script, expected);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn files_that_would_fill_the_memory_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    // A sparse file of 3 GiB without a line break.
    std::fs::File::create(folder.path().join("r.jsonl")).unwrap().set_len(3 << 30).unwrap();
    for script in [
        "for r in read_records(`r.jsonl`) { }",
        "max_activating_examples(`r.jsonl`, 1)",
        "feature_density(load_sae(`demo`), `r.jsonl`)",
        "for t in read_trees(`r.jsonl`) { }",
    ] {
        is_refused(folder.path(), script, "`r.jsonl`, line 1: ");
    }
    is_refused(folder.path(), "for d in open_dataset(`r.jsonl`) { }", "expected a document of at most");
    is_refused(folder.path(), "load_tensors(`r.jsonl`)", "`r.jsonl`");
    // This copies the file, so it gets a smaller one.
    std::fs::File::create(folder.path().join("r.jsonl")).unwrap().set_len(300 << 20).unwrap();
    let grow = "definition_trees(load_model(`demo`), load_sae(`demo`, `blocks.0.hook_resid_pre`), [3], \
                #{ output_path: `r.jsonl` })";
    is_refused(folder.path(), grow, "line 1: ");

    // A document that fits into memory, but whose tokens do not.
    let text = "The old mill has no wheel. ".repeat(1_200_000);
    std::fs::write(
        folder.path().join("long.jsonl"),
        format!("{{\"text\": \"{text}\"}}\n{{\"text\": \"a\"}}\n"),
    )
    .unwrap();
    let line =
        "extract --model demo --sae demo --dataset long.jsonl --long-documents truncate --output o.jsonl";
    let line: Vec<_> = line.split(' ').collect();
    let output =
        shell(folder.path(), "export RAYON_NUM_THREADS=2 MALLOC_ARENA_MAX=2; ulimit -v 2097152", &line)
            .output()
            .unwrap();
    let told = "error: document 0: the tokens of 32400000 bytes of text: expected at most the ";
    assert!(output.status.code() == Some(1) && stderr(&output).contains(told), "{}", stderr(&output));
    // It counts as a bad row.
    let line = [&line[..], &["--max-bad-rows", "1"]].concat();
    let output =
        shell(folder.path(), "export RAYON_NUM_THREADS=2 MALLOC_ARENA_MAX=2; ulimit -v 2097152", &line)
            .output()
            .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(folder.path().join("o.jsonl")).unwrap().lines().count(), 1);
    is_refused(
        folder.path(),
        "let t = \"ab \"; t.pad(60000000, \"ab \"); load_model(`demo`).to_tokens(t)",
        "bytes of text: expected at most",
    );
}

/// Operations on tensors so large that no second one fits: each gives its result or an error and never kills the
/// program. Which of the two depends on the memory that the threads take.
#[cfg(target_os = "linux")]
#[test]
fn operations_without_enough_memory_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let large = "let x = ones([10000, 20000]);";
    for (script, result) in [
        ("let a = []; loop { a.push(zeros([1000, 1000])); }", None),
        (&format!("{large} x.t().matmul(ones([10000, 20])).sum()"), Some("4000000000")),
        (&format!("{large} x.argmax()"), Some("0")),
        (&format!("{large} x.norm()"), Some("14142.1")),
        ("load_sae(`demo`).encode(zeros([300000, 192])).to_tensor().sum()", Some("0")),
        (&format!("{large} x.relu().sum()"), Some("200000000")),
        (&format!("{large} (x > ones([10000, 1])).sum()"), Some("0")),
        (&format!("{large} (x.t() + 1.0).sum()"), Some("400000000")),
        (&format!("{large} x.sum(0).sum()"), Some("200000000")),
        (&format!("{large} x.std()"), Some("0")),
        (&format!("{large} x.softmax().sum()"), Some("10000")),
        (&format!("{large} x.cosine_similarity(x).sum()"), Some("10000")),
        (&format!("{large} save_tensors(x.t(), `x.npy`)"), Some("")),
        (&format!("{large} save_tensors(#{{ x: x }}, `x.safetensors`)"), Some("")),
        ("arange(10000000).topk(10000000).len()", None),
        ("let s = load_sae(`demo`); s.encode(zeros([300000, s.cfg.d_in])).len()", Some("300000")),
        ("let s = load_sae(`demo`); s.forward(zeros([300000, s.cfg.d_in])).len()", Some("300000")),
        ("plot_line(zeros([50000000]))", Some("Figure")),
        ("plot_heatmap(zeros([15000, 15000]))", None),
        ("let t = `\"`; t.pad(90000000, `\"`); page(`t`, [t]).to_html().len()", Some("540000")),
    ] {
        let limit = "export RAYON_NUM_THREADS=2; ulimit -v 2500000";
        let output = shell(folder.path(), limit, &["eval", script]).output().unwrap();
        let (said, stderr) = (String::from_utf8_lossy(&output.stdout), stderr(&output));
        match (output.status.code(), result) {
            (Some(0), Some(result)) => assert!(said.starts_with(result), "{script}: {said}"),
            (Some(1), _) => {
                assert!(
                    stderr.starts_with("error: ")
                        && (stderr.contains("MiB") || stderr.contains("no memory left")),
                    "{script}: {stderr}"
                )
            }
            (code, _) => panic!("{script}: {code:?}, {:?}, {stderr}", output.status.signal()),
        }
    }
}

#[test]
fn modules_that_import_themselves_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let run = |name: &str| shell(folder.path(), "true", &["run", name]).output().unwrap();
    write("itself.rhai", "import \"itself\" as p;\nprint(1);");
    write("a.rhai", "import \"b\" as b; fn f() { 1 }");
    write("b.rhai", "import \"a\" as a;");
    for name in ["itself.rhai", "a.rhai"] {
        let output = run(name);
        let stderr = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {:?} {stderr}", output.status.signal());
        assert!(stderr.contains("expected a module that does not import itself"), "{name}: {stderr}");
        assert!(stderr.contains("put what both need into a third module"), "{name}: {stderr}");
    }
    // Two modules may import the same third one.
    write("one.rhai", "fn f() { 20 }");
    write("two.rhai", "import \"one\" as one; fn g() { import \"one\" as o; o::f() + 1 }");
    write("main.rhai", "import \"one\" as one; import \"two\" as two; print(one::f() + two::g());");
    let output = run("main.rhai");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "41\n", "{}", stderr(&output));
    // A chain of modules has a maximum length.
    for i in 0..100 {
        write(&format!("m{i}.rhai"), &format!("import \"m{}\" as m;", i + 1));
    }
    write("m100.rhai", "");
    let output = run("m0.rhai");
    assert!(stderr(&output).contains("at most 32 nested modules"), "{}", stderr(&output));
}

/// Sends a signal.
fn send(child: &Child, signal: &str) -> bool {
    let arguments = [format!("-{signal}"), child.id().to_string()];
    Command::new("kill").args(arguments).status().unwrap().success()
}

/// Sends a signal; returns the exit code of the program and how long it took to end.
fn ended_by(mut child: Child, signal: &str) -> (Option<i32>, Duration) {
    let start = Instant::now();
    assert!(send(&child, signal));
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return (status.code(), start.elapsed());
        }
        if start.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it did not end after SIG{signal}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for the first byte of a script's output.
fn wait_for_output(child: &mut Child) {
    use std::io::Read;
    let mut said = [0];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
}

#[test]
fn signals_stop_whatever_takes_long() {
    let folder = tempfile::tempdir().unwrap();
    // Each takes many seconds.
    for script in [
        "loop { randn([5000, 20000], 1); }",
        "let a = randn([6000, 6000], 1); print(2); loop { a.matmul(a); }",
        "let a = ones([1 << 14, 1 << 14]); print(2); loop { a.sum(); a.exp().softmax(0); }",
        "let a = []; loop { a = [1]; }",
    ] {
        let script = format!("print(1); {script}");
        let mut child = shell(folder.path(), "true", &["eval", &script]).spawn().unwrap();
        wait_for_output(&mut child);
        std::thread::sleep(Duration::from_millis(300));
        let (code, after) = ended_by(child, "INT");
        assert_eq!(code, Some(130), "{script}");
        assert!(after < Duration::from_secs(20), "{script}: {after:?}");
    }
    // The program waits for statements, or for the answer to a question.
    for (arguments, begins) in [(&[][..], "print(1);\n"), (&["eval", "print(1); input(``)"], "")] {
        let mut command = shell(folder.path(), "true", arguments);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, begins.as_bytes()).unwrap();
        wait_for_output(&mut child);
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(ended_by(child, "TERM").0, Some(130), "{arguments:?}");
    }
    // A script that is still being parsed.
    let script: String = (0..400_000).map(|i| format!("let v{i} = {i};\n")).collect();
    std::fs::write(folder.path().join("large.rhai"), script).unwrap();
    let child = shell(folder.path(), "true", &["run", "large.rhai"]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(ended_by(child, "INT").0, Some(130));
    // A script from a pipe to which nobody writes.
    assert!(Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap().success());
    for signal in ["TERM", "INT", "HUP"] {
        let child = shell(folder.path(), "true", &["run", "pipe"]).spawn().unwrap();
        // Opening the pipe for writing waits until the program reads from it.
        let _writer = std::fs::File::create(folder.path().join("pipe")).unwrap();
        assert_eq!(ended_by(child, signal).0, Some(130), "SIG{signal}");
    }
    let child = shell(folder.path(), "true", &["run", "pipe"]).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(ended_by(child, "TERM").0, Some(130));
    let mut child = shell(folder.path(), "true", &["run", "pipe"]).spawn().unwrap();
    std::fs::write(folder.path().join("pipe"), "print(6 * 7);").unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut text).unwrap();
    assert!(child.wait().unwrap().success() && text == "42\n", "{text}");
}

/// A signal that `nohup` or `trap ''` ignores does not end a run.
#[cfg(target_os = "linux")]
#[test]
fn ignored_signals_stay_ignored() {
    let folder = tempfile::tempdir().unwrap();
    for signal in ["HUP", "TERM", "XCPU"] {
        let before = format!("trap '' {signal}");
        let script = "print(1); sleep(1); print(2);";
        let mut child = shell(folder.path(), &before, &["eval", script]).spawn().unwrap();
        wait_for_output(&mut child);
        assert!(send(&child, signal));
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "SIG{signal}: {}", stderr(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "\n2\n", "SIG{signal}");
    }
    let mut child = shell(folder.path(), "true", &["eval", "print(1); sleep(60);"]).spawn().unwrap();
    wait_for_output(&mut child);
    assert_eq!(ended_by(child, "HUP").0, Some(130));
}

#[test]
fn a_long_statement_from_a_pipe_takes_linear_time() {
    let time = |lines: usize| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_saescope"));
        let command = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let start = Instant::now();
        let mut child = command.spawn().unwrap();
        let text = format!("let a = [\n{}];\na.len()\n", "1,\n".repeat(lines));
        let mut input = child.stdin.take().unwrap();
        let write = std::thread::spawn(move || std::io::Write::write_all(&mut input, text.as_bytes()));
        let output = child.wait_with_output().unwrap();
        write.join().unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{lines}\n"));
        start.elapsed()
    };
    // If each line reparsed the statement from its beginning, this would take many minutes.
    let took = time(64_000);
    assert!(took < Duration::from_secs(60), "{took:?}");
}
