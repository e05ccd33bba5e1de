//! The text formats: what they accept, and errors for everything else.

use super::{assert_fails, gzip, outcome};

#[test]
fn json_lines_are_objects_with_a_text_column() {
    let ok = |content: &[u8]| outcome("x.jsonl", content).expect("good lines");
    assert_eq!(ok(b"\n  \n{\"text\": \"a\"}\r\n\r\n\t{\"n\": [1, {}], \"text\": \"b\"} "), ["a", "b"]);
    assert_eq!(ok(b"{\"text\": null}\n{\"text\": \"\"}\n{\"text\": \"x\", \"text\": \"y\"}"), ["", "", "y"]);
    assert_eq!(ok("{\"text\": \"\\ud83d\\ude42é\"}".as_bytes()), ["🙂é"]);
    // Surrogates and deep nesting in other columns do no harm.
    let deep =
        format!("{{\"x\": {}{}, \"y\": \"\\ud800\", \"text\": \"t\"}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(ok(deep.as_bytes()), ["t"]);

    assert_fails(
        "x.jsonl",
        b"{\"text\": \"a\"}\n\n[1]",
        "FILE, line 3: expected an object with a column `text`, got an array | name a file that is one array",
    );
    assert_fails("x.jsonl", b"plain text", "FILE, line 1: not JSON: expected value at column 1 | every line");
    assert_fails("x.jsonl", b"\"x\"", "FILE, line 1: expected an object with a column `text`, got a string");
    assert_fails("x.jsonl", b"null", "FILE, line 1: expected an object with a column `text`, got null");
    assert_fails(
        "x.jsonl",
        b"{}",
        "FILE, line 1: expected an object with a column `text`, got one without columns",
    );
    assert_fails(
        "x.jsonl",
        b"{\"text\": [\"a\"]}",
        "FILE, line 1: column `text`: expected a string, got an array",
    );
    assert_fails(
        "x.jsonl",
        b"{\"text\": {\"a\": 1}}",
        "FILE, line 1: column `text`: expected a string, got an object",
    );
    assert_fails(
        "x.jsonl",
        b"{\"text\": true}",
        "FILE, line 1: column `text`: expected a string, got a boolean",
    );
    assert_fails(
        "x.jsonl",
        b"{\"text\": -1.5}",
        "FILE, line 1: column `text`: expected a string, got a number",
    );
    assert_fails(
        "x.jsonl",
        b"{\"text\": \"a\"} {",
        "FILE, line 1: not JSON: trailing characters at column 15",
    );
    assert_fails(
        "x.jsonl",
        b"{\"text\": \"\\udc00\"}",
        "FILE, line 1: expected text in UTF-8, got a lone surrogate",
    );
    assert_fails(
        "x.jsonl",
        b"{\"text\": \"\\ud800\\u0041\"}",
        "FILE, line 1: expected text in UTF-8, got a lone surrogate",
    );
    assert_fails("x.jsonl", b"\xff\xfe{\x00}\x00", "FILE: expected text in UTF-8, got UTF-16 | convert");
}

#[test]
fn a_json_file_is_an_array_or_objects() {
    let ok = |content: &[u8]| outcome("x.json", content).expect("good JSON");
    assert_eq!(ok(b"\xef\xbb\xbf \n[ ]\n"), [""; 0]);
    assert_eq!(ok(b" "), [""; 0]);
    assert_eq!(ok(b"[\n {\"text\": \"a\"} , {\"text\": null}\n]\n"), ["a", ""]);
    assert_eq!(ok(b"{\"text\":\n\"a\"}{\"text\": \"b\"}\n{\"text\": \"c\"}"), ["a", "b", "c"]);

    assert_fails(
        "x.json",
        b"[{\"text\": \"a\"}\n{\"text\": \"b\"}]",
        "FILE, line 2, column 1: expected `,` or `]`, got `{` | the file must be one array",
    );
    assert_fails(
        "x.json",
        b"[{\"text\": \"a\"}",
        "FILE, line 1, column 15: expected `,` or `]`, got the end of the file",
    );
    assert_fails(
        "x.json",
        b"[{\"text\": \"a\"},\n{\"text\": \"b",
        "FILE, element 2, line 2: not JSON: EOF while parsing a string at line 2",
    );
    assert_fails("x.json", b"[{\"text\": \"a\"},]", "FILE, element 2, line 1: not JSON: expected value");
    assert_fails(
        "x.json",
        b"[{\"text\": \"a\"}] x",
        "FILE, line 1, column 17: expected the end of the file after the array, got `x`",
    );
    assert_fails(
        "x.json",
        b"[[]]",
        "FILE, element 1, line 1: expected an object with a column `text`, got an array",
    );
    assert_fails(
        "x.json",
        b"[\n1]",
        "FILE, element 1, line 2: expected an object with a column `text`, got a number",
    );
    assert_fails(
        "x.json",
        b"[{\"text\": 1}]",
        "FILE, element 1, line 1: column `text`: expected a string, got a number",
    );
    assert_fails(
        "x.json",
        b"{\"data\": []}",
        "unknown column `text` in FILE, element 1, line 1 | known columns: `data`",
    );
    assert_fails(
        "x.json",
        b"[{\"text\": \"caf\xe9\"}]",
        "FILE, element 1, line 1: expected text in UTF-8, got other bytes",
    );
    assert_fails(
        "x.json",
        b"[{\"text\": \"\\ud800b\"}]",
        "FILE, element 1, line 1: expected text in UTF-8, got a lone surrogate",
    );
    let cut = gzip(b"[{\"text\": \"a long text about nothing at all\"}]");
    assert_fails(
        "x.json",
        &cut[..cut.len() - 12],
        "FILE, element 1, line 1: the compressed data ends too early | ",
    );
}

#[test]
fn csv_and_tsv_rows_have_the_fields_of_the_header() {
    let ok = |name: &str, content: &[u8]| outcome(name, content).expect("good rows");
    assert_eq!(ok("x.csv", b""), [""; 0]);
    assert_eq!(ok("x.csv", b"n,text\n"), [""; 0]);
    assert_eq!(
        ok("x.csv", b"\xef\xbb\xbftext,n\r\n\"a, \"\"b\"\"\r\nc\",1\r\n\r\n,2\r\n\"\",3"),
        ["a, \"b\"\r\nc", "", ""]
    );
    assert_eq!(ok("x.tsv", b"n\ttext\n1\ta, b\n2\t\"c\td\"\n"), ["a, b", "c\td"]);
    assert_eq!(ok("x.csv", b"text\nit is 5\" long\n"), ["it is 5\" long"]);
    assert_eq!(ok("x.csv", b"n,text\r\n1,x\r\n2\r\n3,z"), ["x", "", "z"]);

    assert_fails(
        "x.csv",
        b"n,body\n1,x\n",
        "unknown column `text` in FILE, line 1 | known columns: `n`, `body`",
    );
    assert_fails(
        "x.csv",
        b"n,text\n1,x\n\n2,y,z\n",
        "FILE, row 2, line 4: expected 2 fields, one per column, got 3 | put a field that contains",
    );
    assert_fails(
        "x.csv",
        b"n,text\n1,x\n2,\"never closed\n3,z\n",
        "FILE, row 2, line 3: expected a closing quote, got the end of the file",
    );
    assert_fails(
        "x.csv",
        b"text\nx\n\"",
        "FILE, row 2, line 3: expected a closing quote, got the end of the file",
    );
    assert_fails("x.csv", b"text\ncaf\xe9\n", "FILE, row 1, line 2: expected text in UTF-8, got byte 0xe9");
    assert_fails("x.csv", b"n,text\r\n1,\"a\nb\"\r\n\r\n2,3,4\r\n", "FILE, row 2, line 5: expected 2 fields");
    assert_fails(
        "x.csv",
        b"n,text\n1,\"a\nb\"\n2,\"b\n\nc\",3\n4,d",
        "FILE, row 2, line 4: expected 2 fields",
    );
    let cut = gzip(b"text\none\ntwo\n");
    assert_fails("x.csv", &cut[..cut.len() - 5], "FILE, row ");
}

#[test]
fn each_line_of_a_text_file_is_a_document() {
    let ok = |content: &[u8]| outcome("x.txt", content).expect("good lines");
    assert_eq!(ok(b""), [""; 0]);
    assert_eq!(ok(b"a"), ["a"]);
    assert_eq!(ok(b"\xef\xbb\xbfa\r\n\nb \r\n"), ["a", "", "b "]);
    assert_eq!(ok(b"\n"), [""]);
    assert_fails(
        "x.txt",
        b"a\ncaf\xe9",
        "FILE, line 2: expected text in UTF-8, got byte 0xe9 at column 4 | convert",
    );
}
