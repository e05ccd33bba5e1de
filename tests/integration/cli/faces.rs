//! The prompt fed from a pipe, the kernelspec, and their errors. (tests/repl/tmux.sh drives the prompt in a terminal,
//! `kernel.rs` and tests/jupyter drive the kernel.)

use super::{saescope, text};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn piped(folder: &Path, arguments: &[&str], statements: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_saescope"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(statements.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn statements_are_read_from_a_pipe() {
    let folder = tempfile::tempdir().unwrap();
    let statements = "let x = 20;\nfn twice(a) {\n    2 * a\n}\ntwice(x) + 2\nprint(\"line\")\n`two\nlines`\nplot_line([1, 2])";
    for arguments in [&[][..], &["repl"]] {
        let output = piped(folder.path(), arguments, statements);
        assert_eq!(text(&output.stdout), "42\nline\ntwo\nlines\nFigure, 640 x 360 pixels\n");
        assert_eq!((text(&output.stderr).as_str(), output.status.code()), ("", Some(0)));
    }
    // A statement may continue on the next line.
    let output = piped(folder.path(), &[], "if false { 1 }\nelse { 2 }\n\"abc\"\n    .len()\n");
    assert_eq!(text(&output.stdout), "2\n3\n");
    for (statements, printed) in [
        ("if false { 1 }\n// a note\nelse { 2 }\n[1, 2]\n  /* b */\n  .len()\n", "2\n2\n"),
        ("let x = 10\n- 3;\nx\n", "7\n"),
        ("/// Twice.\nfn f(x) { 2 * x }\n/** More. */\nfn g(x) {\n x }\nf(4) + g(1)\n", "9\n"),
        ("let s = \"a \\\n  b\";\ns\n", "a b\n"),
        ("let x = if true { 1 } else { 2 }\n + 5;\nx\n", "6\n"),
        ("let y = {\n 3\n}\n-1;\ny\n", "2\n"),
        ("if true { 1 } else { 2 }\n-1\n", "1\n-1\n"),
        ("let a = 2\n// in\n/* b /* c */ d */ in [1, 2];\na\n", "true\n"),
        ("1\nexit();\n2\n", "1\n"),
        ("[3].map(|a| exit(4));\n2\n", "4\n"),
        ("fn f() { exit(4) }\nf()\n2\n", "4\n"),
    ] {
        let output = piped(folder.path(), &[], statements);
        assert_eq!((text(&output.stdout), text(&output.stderr)), (printed.to_owned(), String::new()));
    }
    // Also if the read buffer ends anywhere near the end of a line.
    for n in (1 << 13) - 40..(1 << 13) + 8 {
        let statements = format!("// {}\nlet x = 10\n- 3;\nx\n", "x".repeat(n - 4));
        assert_eq!(text(&piped(folder.path(), &[], &statements).stdout), "7\n", "{n}");
    }
    // A comment left open at the end is reported, in a file too.
    std::fs::write(folder.path().join("open.rhai"), "print(1);\n/* open\nprint(2);").unwrap();
    for arguments in [&[][..], &["run", "open.rhai"]] {
        let output = piped(folder.path(), arguments, "1\n/* open\n2\n");
        let stderr = text(&output.stderr);
        assert!(stderr.contains(": a comment is not closed\nhint: close it with `*/`"), "{stderr}");
    }
    // The first failure ends the run.
    let output = piped(folder.path(), &[], "1\nnonsense\n2\n");
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("1\n", Some(1)));
    assert!(text(&output.stderr).starts_with("error: unknown variable `nonsense`\n --> input:2:1\n"));
    // Line numbers are those of the input, inside functions too.
    let output = piped(folder.path(), &[], "\n// one\nfn f() {\n    nonsense()\n}\n\nf()\n");
    assert!(
        text(&output.stderr).contains("\n --> input:4:5\n  |\n4 |     nonsense()\n"),
        "{}",
        text(&output.stderr)
    );
    let output = piped(folder.path(), &[], "1\nfn f( {\n");
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("1\n", Some(1)));
    let output = piped(folder.path(), &[], "input(\"name? \")");
    assert!(
        text(&output.stderr).contains("expected answers on standard input, got statements"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(piped(folder.path(), &[], "").status.code(), Some(0));
    // A script from a file can ask for input.
    std::fs::write(folder.path().join("ask.rhai"), "print(input(\"name? \") + \"!\")").unwrap();
    let output = piped(folder.path(), &["run", "ask.rhai"], "Ada\n");
    assert_eq!(text(&output.stdout), "name? Ada!\n");
}

#[cfg(unix)]
#[test]
fn a_script_ends_when_its_output_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_saescope");
    std::fs::write(folder.path().join("forever.rhai"), "loop { print(1); }").unwrap();
    for arguments in ["run forever.rhai", "eval 'loop { display(1); }'", "< forever.rhai"] {
        let line = format!("timeout 20 '{program}' {arguments} 2> err | head -n 2; echo ${{PIPESTATUS[0]}}");
        let output = Command::new("bash").args(["-c", &line]).current_dir(folder.path()).output().unwrap();
        assert_eq!(text(&output.stdout), "1\n1\n0\n", "{arguments}");
        assert_eq!(std::fs::read_to_string(folder.path().join("err")).unwrap(), "");
    }
}

#[test]
fn kernel_install_obeys_its_flags_and_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = folder.path().join("env");
    let install = |arguments: &[&str], variables: &[(&str, &Path)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_saescope"));
        command.args(["kernel", "install"]).args(arguments).current_dir(folder.path());
        for name in ["VIRTUAL_ENV", "CONDA_PREFIX", "JUPYTER_DATA_DIR"] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied()).output().unwrap()
    };
    let spec = |data: &Path, name: &str| -> serde_json::Value {
        let path = data.join("kernels").join(name).join("kernel.json");
        serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
            .unwrap()
    };
    let output = install(&["--prefix", prefix.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let written = spec(&prefix.join("share/jupyter"), "saescope");
    assert_eq!(
        written["argv"],
        serde_json::json!([env!("CARGO_BIN_EXE_saescope"), "kernel", "start", "-f", "{connection_file}"])
    );
    assert_eq!((&written["interrupt_mode"], &written["language"]), (&"message".into(), &"rhai".into()));
    assert!(written.as_object().unwrap().values().all(|value| !value.is_null()));
    let logo = prefix.join("share/jupyter/kernels/saescope/logo-64x64.png");
    assert!(std::fs::read(logo).unwrap().starts_with(b"\x89PNG"));
    // A second kernel under another name beside it.
    install(&["--sys-prefix", "--name", "saescope-dev"], &[("VIRTUAL_ENV", &prefix)]);
    assert_eq!(
        spec(&prefix.join("share/jupyter"), "saescope-dev")["display_name"],
        "saescope (saescope-dev)"
    );
    let data = folder.path().join("data");
    assert_eq!(install(&["--user"], &[("JUPYTER_DATA_DIR", &data)]).status.code(), Some(0));
    spec(&data, "saescope");
    if cfg!(target_os = "linux") {
        assert_eq!(install(&[], &[("XDG_DATA_HOME", &data)]).status.code(), Some(0));
        spec(&data.join("jupyter"), "saescope");
    }
    for (arguments, expected) in [
        (&["--sys-prefix"][..], "`--sys-prefix`: expected an active Python environment"),
        (&["--name", "../up"], "`--name`: expected ASCII letters"),
        (&["--user", "--sys-prefix"], "cannot be used with"),
    ] {
        let output = install(arguments, &[]);
        assert!(
            !output.status.success() && text(&output.stderr).contains(expected),
            "{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn missing_connection_files_and_evcxr_configs_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let output = saescope(folder.path(), &["kernel", "start", "-f", "none.json"]);
    assert!(text(&output.stderr).starts_with("error: cannot open `none.json`"), "{}", text(&output.stderr));
    let output = saescope(folder.path(), &["notebook", "setup"]);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("expected one with `evcxr.toml`") && stderr.contains("saescope notebook setup"),
        "{stderr}"
    );
}
