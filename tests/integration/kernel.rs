//! The Jupyter kernel over its sockets: results, errors, interrupts and malformed messages.

mod frontend;
mod transports;

use frontend::{Frontend, connection, connection_file};
use jupyter_protocol::{
    CommInfoRequest, CommOpen, CompleteRequest, ConnectionInfo, ExecuteRequest, HistoryRequest, InputReply,
    InspectRequest, InterruptRequest, IsCompleteReplyStatus, IsCompleteRequest, JupyterMessage,
    JupyterMessageContent, KernelInfoRequest, Media, ReplyStatus, ShutdownRequest, Stdio, UnknownMessage,
};
use saescope::Progress;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};

/// The representation with a MIME type, as a string.
fn form(media: &Media, mime: &str) -> String {
    let value = serde_json::to_value(media).unwrap();
    value[mime].as_str().unwrap_or_default().to_owned()
}

/// The value of a cell, as text.
#[track_caller]
fn value(frontend: &mut Frontend, code: &str) -> String {
    let outputs = frontend.run(code);
    let Some(JupyterMessageContent::ExecuteResult(result)) = outputs.last() else { panic!("{outputs:?}") };
    form(&result.data, "text/plain")
}

fn types(outputs: &[JupyterMessageContent]) -> Vec<&str> {
    outputs.iter().map(JupyterMessageContent::message_type).collect()
}

#[test]
fn a_cell_prints_displays_and_returns_a_value() {
    let mut frontend = Frontend::start();
    frontend.beats();
    let outputs = frontend.run("print(\"a\"); print(\"b\"); display(plot_line([1, 2])); print(\"c\"); 1 + 1");
    assert_eq!(types(&outputs), ["execute_input", "stream", "display_data", "stream", "execute_result"]);
    let [_, JupyterMessageContent::StreamContent(ab), JupyterMessageContent::DisplayData(shown), _, result] =
        &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!((ab.text.as_str(), matches!(ab.name, Stdio::Stdout)), ("a\nb\n", true));
    assert!(
        form(&shown.data, "image/svg+xml").contains("<svg") && !form(&shown.data, "image/png").is_empty()
    );
    assert_eq!(shown.metadata["image/png"], json!({ "width": 640, "height": 360 }));
    let JupyterMessageContent::ExecuteResult(result) = result else { panic!("{result:?}") };
    assert_eq!((form(&result.data, "text/plain").as_str(), result.execution_count.value()), ("2", 1));

    // A value has an HTML form for notebooks.
    let outputs = frontend.run(
        "let model = load_model(\"demo\"); let sae = load_sae(\"demo\", \"blocks.0.hook_resid_pre\");
         definition_tree(model, feature_vector(model, sae, 624), #{ cutoff: 1e-2 })",
    );
    let Some(JupyterMessageContent::ExecuteResult(tree)) = outputs.last() else { panic!("{outputs:?}") };
    let html = form(&tree.data, "text/html");
    assert!(html.contains("<svg") && html.contains("<details>"), "{html:.300}");
    assert!(form(&tree.data, "text/plain").contains("├─"));
    assert!(types(&frontend.run("let x = 1;")).iter().all(|kind| *kind == "execute_input"));

    // Silent cells show nothing and do not count; user expressions are in the reply.
    let silent = ExecuteRequest {
        silent: true,
        user_expressions: Some([("twice".to_owned(), "2 * x".to_owned())].into()),
        ..ExecuteRequest::new("print(x); x".to_owned())
    };
    let id = frontend.send(silent);
    assert_eq!(types(&frontend.outputs(&id)), [""; 0]);
    let reply = frontend.execute_reply();
    assert_eq!(reply.execution_count.value(), 3);
    let expressions = serde_json::to_value(reply.user_expressions).unwrap();
    assert_eq!(expressions["twice"]["data"]["application/json"], 2);
}

#[test]
fn requests_about_code_are_answered() {
    let mut frontend = Frontend::start();
    frontend.run("let naïve = 1;".replace('ï', "i").as_str());
    // Positions count characters, also after characters of several bytes.
    let code = "\"🙂é\"; load_mod";
    frontend.send(CompleteRequest { code: code.to_owned(), cursor_pos: code.chars().count() });
    let JupyterMessageContent::CompleteReply(reply) = frontend.reply().content else { panic!() };
    assert_eq!((reply.matches, reply.cursor_start, reply.cursor_end), (vec!["load_model".to_owned()], 6, 14));
    assert_eq!(reply.metadata["_jupyter_types_experimental"][0]["type"], "function");
    frontend.send(InspectRequest { code: "load_model".to_owned(), cursor_pos: 3, detail_level: None });
    let JupyterMessageContent::InspectReply(reply) = frontend.reply().content else { panic!() };
    assert!(reply.found && form(&reply.data, "text/markdown").contains("Loads a language model"));
    for (code, status) in [
        ("1", IsCompleteReplyStatus::Complete),
        ("f(", IsCompleteReplyStatus::Incomplete),
        ("f)", IsCompleteReplyStatus::Invalid),
    ] {
        frontend.send(IsCompleteRequest { code: code.to_owned() });
        let JupyterMessageContent::IsCompleteReply(reply) = frontend.reply().content else { panic!() };
        assert_eq!(reply.status, status, "{code}");
    }
    frontend.send(CommInfoRequest::default());
    let JupyterMessageContent::CommInfoReply(reply) = frontend.reply().content else { panic!() };
    assert!(reply.comms.is_empty());
    frontend.send(JupyterMessageContent::HistoryRequest(HistoryRequest::Tail {
        n: 5,
        output: false,
        raw: true,
    }));
    let JupyterMessageContent::HistoryReply(reply) = frontend.reply().content else { panic!() };
    assert_eq!(reply.history.len(), 1);
    frontend.send(KernelInfoRequest {});
    let JupyterMessageContent::KernelInfoReply(reply) = frontend.reply().content else { panic!() };
    assert_eq!((reply.language_info.name.as_str(), reply.implementation.as_str()), ("rhai", "saescope"));
    // A comm without a target is closed.
    let id = frontend.send(CommOpen::default());
    assert_eq!(types(&frontend.outputs(&id)), ["comm_close"]);
    // `name?` asks for help.
    let outputs = frontend.run("token_list?");
    let Some(JupyterMessageContent::ExecuteResult(answer)) = outputs.last() else { panic!("{outputs:?}") };
    assert!(form(&answer.data, "text/markdown").contains("`exponent`"));
}

#[test]
fn an_error_shows_its_line_and_aborts_queued_cells() {
    let mut frontend = Frontend::start();
    frontend.run("let kept = 1;");
    let failed = frontend.execute("let lost = 2; sleep(0.3);\nnonsense(lost)");
    let aborted = frontend.execute("kept = 3");
    let JupyterMessageContent::ErrorOutput(error) = &frontend.outputs(&failed)[1] else { panic!() };
    assert_eq!(error.evalue, "unknown function `nonsense`");
    assert!(error.traceback.iter().any(|line| line == " --> cell [2]:2:1"), "{:?}", error.traceback);
    assert!(error.traceback.iter().any(|line| line.ends_with("^^^^^^^^")), "{:?}", error.traceback);
    let reply = frontend.execute_reply();
    assert_eq!((reply.status, reply.error.unwrap().ename.as_str()), (ReplyStatus::Error, "Error"));
    assert_eq!(types(&frontend.outputs(&aborted)), [""; 0]);
    assert_eq!(frontend.execute_reply().status, ReplyStatus::Aborted);
    // With `stop_on_error: false` the queue continues.
    let continuing = ExecuteRequest { stop_on_error: false, ..ExecuteRequest::new("nonsense()".to_owned()) };
    frontend.send(continuing);
    frontend.execute("kept");
    assert_eq!(frontend.execute_reply().status, ReplyStatus::Error);
    assert_eq!(frontend.execute_reply().status, ReplyStatus::Ok);
    assert_eq!(value(&mut frontend, "kept"), "1");
}

#[test]
fn a_running_extraction_shows_its_progress_and_can_be_interrupted() {
    let mut frontend = Frontend::start();
    let at = |name: &str| frontend.folder.path().join(name);
    let line = "{\"text\": \"A small boat on a large lake, and a fox who wanted to be a cartographer.\"}\n";
    std::fs::write(at("many.jsonl"), line.repeat(200_000)).unwrap();
    let (documents, output) = (at("many.jsonl").display().to_string(), at("out.jsonl").display().to_string());
    let extraction = frontend.execute(&format!(
        "create_feature_dataset(load_model(\"demo\"), load_sae(\"demo\"), #{{ dataset_path: \"{documents}\", output_path: \
         \"{output}\" }})"
    ));
    // A progress bar appears and is updated in place.
    let mut ids = Vec::new();
    while ids.len() < 3 {
        let id = match frontend.published().content {
            JupyterMessageContent::DisplayData(shown) => shown.transient.unwrap().display_id.unwrap(),
            JupyterMessageContent::UpdateDisplayData(shown) => {
                assert!(form(&shown.data, "text/plain").contains("tokens/s"), "{:?}", shown.data);
                shown.transient.display_id.unwrap()
            }
            _ => continue,
        };
        ids.push(id);
    }
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    // The kernel answers while it works.
    frontend.beats();
    frontend.send_control(KernelInfoRequest {});
    assert_eq!(frontend.control_reply().header.msg_type, "kernel_info_reply");
    let queued = frontend.execute("1");
    let start = Instant::now();
    frontend.send_control(InterruptRequest {});
    assert_eq!(frontend.control_reply().header.msg_type, "interrupt_reply");
    let reply = frontend.execute_reply();
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!((reply.status, reply.error.unwrap().ename.as_str()), (ReplyStatus::Error, "Interrupted"));
    assert_eq!(frontend.execute_reply().status, ReplyStatus::Aborted);
    frontend.outputs(&extraction);
    frontend.outputs(&queued);
    assert!(!at_path(&frontend, "out.jsonl").exists());
    // An interrupt without a running cell does nothing.
    frontend.send_control(InterruptRequest {});
    frontend.control_reply();
    frontend.run("1 + 1");
}

fn at_path(frontend: &Frontend, name: &str) -> std::path::PathBuf {
    frontend.folder.path().join(name)
}

#[test]
fn forged_and_repeated_messages_are_not_run() {
    let mut frontend = Frontend::start();
    frontend.run("let n = 0;");
    let mut stranger = frontend.stranger();
    assert!(frontend.is_ignored(&mut stranger, ExecuteRequest::new("n += 1".to_owned())));
    assert!(frontend.is_ignored(&mut stranger, KernelInfoRequest {}));
    // The same message again, with its right signature.
    let message = JupyterMessage::new(ExecuteRequest::new("n += 1".to_owned()), None);
    frontend.send_message(message.clone());
    assert_eq!(frontend.execute_reply().status, ReplyStatus::Ok);
    frontend.send_message(message);
    assert!(frontend.is_silent(Duration::from_millis(500)));
    assert_eq!(value(&mut frontend, "n"), "1");
    // The same message is not accepted at another socket either.
    let message = JupyterMessage::new(InterruptRequest {}, None);
    frontend.send_control_message(message.clone());
    assert_eq!(frontend.control_reply().header.msg_type, "interrupt_reply");
    frontend.send_message(message);
    assert!(frontend.is_silent(Duration::from_millis(500)));
    // A different message with the same id is: jupyter_client reuses ids across sockets.
    let shell = JupyterMessage::new(KernelInfoRequest {}, None);
    let mut control = JupyterMessage::new(InterruptRequest {}, None);
    control.header.msg_id = shell.header.msg_id.clone();
    frontend.send_message(shell);
    assert_eq!(frontend.reply().header.msg_type, "kernel_info_reply");
    frontend.send_control_message(control);
    assert_eq!(frontend.control_reply().header.msg_type, "interrupt_reply");
    // A shutdown that was meant for an earlier kernel does not end this one.
    let mut shutdown = JupyterMessage::new(ShutdownRequest { restart: true }, None);
    shutdown.header.date -= Duration::from_secs(3600);
    frontend.send_control_message(shutdown);
    assert!(frontend.is_silent(Duration::from_millis(300)));
    frontend.run("n + 1");
}

/// An unauthenticated peer announces a frame that is larger than memory.
#[test]
fn an_oversized_frame_closes_only_its_own_connection() {
    use std::io::{Read, Write};
    let mut frontend = Frontend::start();
    frontend.run("let n = 1;");
    let info = frontend.info.clone();
    for port in [info.shell_port, info.iopub_port, info.stdin_port, info.control_port, info.hb_port] {
        for length in [u64::MAX, 1 << 62, 1 << 40, 1 << 33] {
            let mut peer = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let mut sent = [0u8; 64].to_vec();
            sent[..16].copy_from_slice(b"\xff\0\0\0\0\0\0\x01\x7f\x03\0NULL\0");
            sent.extend(b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x02");
            sent.extend(length.to_be_bytes());
            sent.extend(b"abc");
            // A socket that does not accept a DEALER may close the connection before the last byte is sent.
            let _ = peer.write_all(&sent);
            // The kernel must close the connection before the read times out.
            let mut rest = Vec::new();
            let ended = peer.read_to_end(&mut rest);
            assert!(!ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "{port} {length}");
        }
    }
    assert_eq!(value(&mut frontend, "n + 1"), "2");
}

/// HMAC-SHA256 in hexadecimal (RFC 2104), for a key of at most 64 bytes.
fn signature(key: &str, parts: &[&[u8]]) -> Vec<u8> {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key.bytes()).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(parts.concat()).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    outer.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()
}

#[test]
fn malformed_messages_are_answered_or_ignored() {
    let mut frontend = Frontend::start();
    let key = frontend.info.key.clone();
    let header = |id: &str, kind: &str| {
        json!({ "msg_id": id, "username": "u", "session": "s", "date": "2026-01-01T00:00:00Z", "msg_type": kind, "version": "5.3" })
            .to_string()
            .into_bytes()
    };
    let signed = |parts: [&[u8]; 4]| {
        let mut frames = vec![b"<IDS|MSG>".to_vec(), signature(&key, &parts)];
        frames.extend(parts.iter().map(|part| part.to_vec()));
        frames
    };
    // The test signs as the kernel does: a good message is answered.
    frontend.send_frames(signed([&header("m0", "kernel_info_request"), b"{}", b"{}", b"{}"]));
    assert_eq!(frontend.reply().header.msg_type, "kernel_info_reply");
    let ignored = [
        vec![],
        vec![b"".to_vec()],
        vec![b"no delimiter".to_vec()],
        vec![b"<IDS|MSG>".to_vec()],
        vec![b"<IDS|MSG>".to_vec(), b"zz".to_vec()],
        vec![b"<IDS|MSG>".to_vec(), b"\xff\x00".to_vec(), vec![], vec![], vec![], vec![]],
        signed([b"not json", b"{}", b"{}", b"{}"]),
        signed([b"{}", b"{}", b"{}", b"{}"]),
        signed([&header("m2", "execute_request"), b"{}", b"nonsense", b"{}"]),
        signed([b"\xff\xfe", b"{}", b"{}", b"{}"]),
    ];
    for frames in ignored.into_iter().filter(|frames| !frames.is_empty()) {
        frontend.send_frames(frames);
    }
    assert!(frontend.is_silent(Duration::from_millis(300)));
    // Signed messages with invalid content are answered, so that no client waits. A lone surrogate is not text.
    for (id, content) in [("m1", &b"{\"code\": "[..]), ("m3", b"{\"code\": \"\\ud800\"}"), ("m4", b"\xff")] {
        frontend.send_frames(signed([&header(id, "execute_request"), b"{}", b"{}", content]));
        let reply = frontend.reply();
        assert_eq!(reply.header.msg_type, "execute_reply", "{id}");
    }
    let wrong = [
        ("execute", json!({ "code": 3 })),
        ("execute", json!([])),
        ("complete", json!({ "cursor_pos": -1 })),
        ("unheard_of", json!({})),
    ];
    for (i, (kind, content)) in wrong.into_iter().enumerate() {
        let (header, content) = (header(&format!("w{i}"), &format!("{kind}_request")), content.to_string());
        frontend.send_frames(signed([&header, b"{}", b"{}", content.as_bytes()]));
        let reply = frontend.reply();
        let content = serde_json::to_value(&reply.content).unwrap();
        assert_eq!((reply.header.msg_type, &content["status"]), (format!("{kind}_reply"), &json!("error")));
    }
    // Requests with only the required fields work, and positions beyond the code do no harm.
    frontend.send_frames(signed([&header("d", "execute_request"), b"{}", b"{}", b"{\"code\": \"1\"}"]));
    assert_eq!(frontend.execute_reply().status, ReplyStatus::Ok);
    frontend.send(CompleteRequest { code: "é".to_owned(), cursor_pos: 9 });
    assert_eq!(frontend.reply().header.msg_type, "complete_reply");
    let unknown = UnknownMessage { msg_type: "comm_msg".to_owned(), content: json!({ "comm_id": 3 }) };
    frontend.send(unknown);
    frontend.run("1 + 1");
}

#[test]
fn a_script_asks_for_input_if_the_front_end_allows_it() {
    let mut frontend = Frontend::start();
    let asks =
        ExecuteRequest { allow_stdin: true, ..ExecuteRequest::new("input(\"name? \") + \"!\"".to_owned()) };
    let id = frontend.send(asks.clone());
    let JupyterMessageContent::InputRequest(question) = frontend.question().content else { panic!() };
    assert_eq!((question.prompt.as_str(), question.password), ("name? ", false));
    frontend.answer(InputReply { value: "Ada".to_owned(), ..Default::default() });
    let outputs = frontend.outputs(&id);
    let Some(JupyterMessageContent::ExecuteResult(answer)) = outputs.last() else { panic!("{outputs:?}") };
    assert_eq!(form(&answer.data, "text/plain"), "Ada!");
    assert_eq!(frontend.execute_reply().status, ReplyStatus::Ok);
    // A pending question can be interrupted.
    frontend.send(asks);
    frontend.question();
    frontend.send_control(InterruptRequest {});
    assert_eq!(frontend.execute_reply().error.unwrap().ename, "Interrupted");
    // Without stdin a question is an error.
    frontend.execute("input(\"name? \")");
    assert!(frontend.execute_reply().error.unwrap().evalue.contains("a front end that can ask"));
}

#[test]
fn clients_that_disconnect_or_speak_http_do_no_harm() {
    use std::io::{Read, Write};
    let mut frontend = Frontend::start();
    for _ in 0..3 {
        frontend.beats_and_disconnects();
    }
    // A web browser that connects to each socket and hangs up.
    let info = frontend.info.clone();
    for port in [info.hb_port, info.shell_port, info.control_port, info.iopub_port, info.stdin_port] {
        let mut stream = std::net::TcpStream::connect((info.ip.as_str(), port)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let _ = stream.read(&mut [0; 64]);
    }
    frontend.beats();
    frontend.run("1 + 1");
    frontend.send_control(KernelInfoRequest {});
    assert_eq!(frontend.control_reply().header.msg_type, "kernel_info_reply");
}

#[test]
fn old_front_ends_interrupt_and_shut_down_over_the_shell_socket() {
    let mut frontend = Frontend::start();
    let runs = frontend.execute("sleep(60)");
    while !matches!(frontend.published().content, JupyterMessageContent::ExecuteInput(_)) {}
    let queued = frontend.execute("let never = 1;");
    frontend.send(InterruptRequest {});
    let kinds: Vec<_> = (0..3).map(|_| frontend.reply().header.msg_type).collect();
    assert!(kinds.contains(&"interrupt_reply".to_owned()), "{kinds:?}");
    frontend.outputs(&runs);
    assert_eq!(types(&frontend.outputs(&queued)), [""; 0]);
    frontend.run("1 + 1");
    frontend.send(ShutdownRequest { restart: false });
    assert_eq!(frontend.reply().header.msg_type, "shutdown_reply");
    frontend.ended(Duration::from_secs(30));
}

#[test]
fn an_endless_loop_streams_its_output_and_can_be_interrupted() {
    let mut frontend = Frontend::start();
    let id = frontend.execute("let n = 0; loop { print(n); n += 1; }");
    let mut lines = 0;
    while lines < 100_000 {
        if let JupyterMessageContent::StreamContent(text) = frontend.published().content {
            lines += text.text.lines().count();
        }
    }
    frontend.send_control(InterruptRequest {});
    assert_eq!(frontend.execute_reply().error.unwrap().ename, "Interrupted");
    frontend.outputs(&id);
    frontend.run("1 + 1");
}

#[test]
fn a_shutdown_ends_the_kernel_even_while_it_works() {
    for code in ["sleep(60)", "1"] {
        let mut frontend = Frontend::start();
        frontend.execute(code);
        // The cell has started.
        while !matches!(frontend.published().content, JupyterMessageContent::ExecuteInput(_)) {}
        frontend.send_control(ShutdownRequest { restart: true });
        let JupyterMessageContent::ShutdownReply(reply) = frontend.control_reply().content else { panic!() };
        assert!(reply.restart && reply.status == ReplyStatus::Ok);
        frontend.ended(Duration::from_secs(30));
    }
}

#[test]
fn unsafe_connection_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |info: &ConnectionInfo, expected: &str| {
        let path = connection_file(folder.path(), info);
        let error = saescope::cli::serve_kernel(&path, &Progress::default()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.hint().is_some(), "{error}");
    };
    let good = connection();
    for ip in ["0.0.0.0", "*", "192.168.1.7", "::", "localhost.example.org", "[::]", "notlocalhost", ""] {
        let expected = format!("expected a loopback address such as 127.0.0.1, got `{ip}`");
        refused(&ConnectionInfo { ip: ip.to_owned(), ..good.clone() }, &expected);
    }
    refused(&ConnectionInfo { key: String::new(), ..good.clone() }, "expected a key, got an empty one");
    refused(
        &ConnectionInfo { signature_scheme: "hmac-md5".to_owned(), ..good.clone() },
        "expected the signature scheme",
    );
    let path = connection_file(folder.path(), &good);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        for writable in [0o620, 0o602, 0o666] {
            mode(writable);
            let error = saescope::cli::serve_kernel(&path, &Progress::default()).unwrap_err();
            let expected = format!("only its owner can read and write, got mode {writable:04o}");
            assert!(error.to_string().contains(&expected), "{error}");
        }
        // VS Code writes mode 644: the file is made private, and the error is about its contents.
        std::fs::write(&path, "{\"ip\": 3}").unwrap();
        mode(0o644);
        let error = saescope::cli::serve_kernel(&path, &Progress::default()).unwrap_err();
        assert!(error.to_string().contains("not a connection file"), "{error}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    std::fs::write(&path, "{\"ip\": 3}").unwrap();
    let error = saescope::cli::serve_kernel(&path, &Progress::default()).unwrap_err();
    assert!(error.to_string().contains("not a connection file"), "{error}");
    let missing = saescope::cli::serve_kernel(&folder.path().join("none.json"), &Progress::default());
    assert!(missing.unwrap_err().to_string().contains("cannot open"));
    // A port that is in use.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = ConnectionInfo { shell_port: taken.local_addr().unwrap().port(), ..connection() };
    let path = connection_file(folder.path(), &busy);
    let error = saescope::cli::serve_kernel(&path, &Progress::default()).unwrap_err();
    assert!(
        error.to_string().contains("cannot listen on port") && error.to_string().contains("(shell socket)"),
        "{error}"
    );
}
