"""The kernel under jupyter_kernel_test, which checks every message against the protocol.

Run by .ci/run; by hand:

    python -m venv venv && venv/bin/pip install -r tests/jupyter/requirements.txt
    target/release/saescope kernel install --prefix venv
    venv/bin/python -m unittest discover -v -s tests/jupyter
"""

import unittest

import jupyter_kernel_test
from jupyter_kernel_test.msgspec_v5 import validate_message


class SaescopeTests(jupyter_kernel_test.KernelTests):
    kernel_name = "saescope"
    language_name = "rhai"
    file_extension = ".rhai"
    code_hello_world = 'print("hello, world")'
    code_generate_error = "nonsense(1)"
    code_execute_result = [
        {"code": "1 + 2", "result": "3"},
        {"code": '"a" + "b"', "result": "ab"},
        {"code": "1 + 2 + 3", "result": "6"},
        {"code": "load_model(\"demo\").cfg.n_layers", "result": "6"},
        {"code": 'load_model("demo")', "mime": "text/html"},
        {"code": "plot_line([1, 4, 9])", "mime": "image/svg+xml"},
        {"code": "?load_model", "mime": "text/markdown"},
    ]
    code_display_data = [
        {"code": "display(plot_line([1, 4, 9]));", "mime": "image/png"},
        {"code": "display([#{ a: 1 }, #{ a: 2 }]); print(1);", "mime": "text/html"},
    ]
    completion_samples = [
        {"text": "load_mod", "matches": ["load_model"]},
        {"text": 'load_model("gpt2-sm', "matches": ["gpt2-small"]},
        {"text": "let é = plot_heat", "matches": ["plot_heatmap"]},
    ]
    complete_code_samples = ["1", "fn f(x) { x }", 'print("a")']
    incomplete_code_samples = ["fn f(x) {", "let x = [1,", "`two\nlines"]
    invalid_code_samples = ["f)", "let 5 = 1;"]
    code_inspect_sample = "definition_tree"
    code_history_pattern = "1 + ?"
    supported_history_operations = ("tail", "range", "search")

    # Not supported by this kernel: a pager, scripts that write to standard error, and clear_output.
    test_pager = None
    test_execute_stderr = None
    test_clear_output = None

    def test_comm_info(self):
        self.flush_channels()
        sent = self.kc.comm_info()
        reply = self.get_non_kernel_info_reply(timeout=10)
        validate_message(reply, "comm_info_reply", sent)
        self.assertEqual(reply["content"]["comms"], {})

    def test_stdin_off(self):
        self.flush_channels()
        self.kc.execute('input("name? ")', allow_stdin=False)
        reply = self.get_non_kernel_info_reply(timeout=10)
        self.assertEqual(reply["content"]["status"], "error")
        self.assertIn("a front end that can ask", reply["content"]["evalue"])

    def test_stdin_on(self):
        self.flush_channels()
        self.kc.execute('input("name? ") + "!"', allow_stdin=True)
        question = self.kc.get_stdin_msg(timeout=10)
        self.assertEqual(question["content"]["prompt"], "name? ")
        self.kc.input("Ada")
        reply = self.get_non_kernel_info_reply(timeout=10)
        self.assertEqual(reply["content"]["status"], "ok")

    def test_user_expressions(self):
        self.flush_channels()
        self.kc.execute("let a = [1, 2];", user_expressions={"a": "a", "b": "nonsense"})
        reply = self.get_non_kernel_info_reply(timeout=10)
        values = reply["content"]["user_expressions"]
        self.assertEqual(values["a"]["data"]["application/json"], [1, 2])
        self.assertEqual(values["b"]["status"], "error")


if __name__ == "__main__":
    unittest.main()
