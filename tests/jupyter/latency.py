"""Measures the latency of a kernel's first result, of a cell, and of the prompt.

    python tests/jupyter/latency.py target/release/saescope

Prints the median of several runs next to its target. With --check, fails if a median is more than three times its target, which
leaves room for a busy machine.
"""

import argparse
import os
import pty
import statistics
import subprocess
import tempfile
import time

from jupyter_client import BlockingKernelClient
from jupyter_client.connect import write_connection_file

# Milliseconds.
AIMS = {"kernel start to first result": 300, "a cell 1+1, round trip": 5, "prompt": 100}


def first_result(program, folder):
    """Starts a kernel as Jupyter does. Returns the seconds to its first result, a client, and the process."""
    path, _ = write_connection_file(os.path.join(folder, "connection.json"), key=b"a key for this run")
    client = BlockingKernelClient(connection_file=path)
    client.load_connection_file()
    start = time.perf_counter()
    process = subprocess.Popen([program, "kernel", "start", "-f", path])
    client.start_channels()
    client.execute("1+1")
    reply = client.get_shell_msg(timeout=20)
    seconds = time.perf_counter() - start
    assert reply["content"]["status"] == "ok", reply
    return seconds, client, process


def cell(client):
    start = time.perf_counter()
    client.execute("1+1")
    client.get_shell_msg(timeout=20)
    return time.perf_counter() - start


def prompt(program, folder):
    """The seconds from the start to the prompt, in a terminal."""
    environment = os.environ | {"XDG_DATA_HOME": folder, "TERM": "xterm-256color"}
    start = time.perf_counter()
    process, terminal = pty.fork()
    if process == 0:
        os.execve(program, [program], environment)
    seen = b""
    while b"> " not in seen.split(b"this prompt.")[-1] or b"this prompt." not in seen:
        seen += os.read(terminal, 4096)
        # Answer the line editor's request for the cursor position.
        if b"\x1b[6n" in seen:
            os.write(terminal, b"\x1b[1;1R")
            seen = seen.replace(b"\x1b[6n", b"")
    seconds = time.perf_counter() - start
    os.write(terminal, b"\x04")
    os.close(terminal)
    os.waitpid(process, 0)
    return seconds


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("program")
    arguments.add_argument("--check", action="store_true")
    arguments = arguments.parse_args()
    program = os.path.abspath(arguments.program)
    starts, cells, prompts = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(9):
            seconds, client, process = first_result(program, folder)
            starts.append(seconds)
            cells += [cell(client) for _ in range(20)]
            client.shutdown()
            process.wait(timeout=10)
            client.stop_channels()
            prompts.append(prompt(program, folder))
    failed = False
    for (name, aim), times in zip(AIMS.items(), [starts, cells, prompts]):
        median = 1000 * statistics.median(times)
        print(f"{name:30} {median:8.2f} ms   (at most {aim} ms; {1000 * min(times):.2f} to {1000 * max(times):.2f})")
        failed |= median > 3 * aim
    if arguments.check and failed:
        raise SystemExit("a median is more than three times its target")


if __name__ == "__main__":
    main()
