"""Executes notebooks as a user would, each as a copy in a temporary folder.

    python tests/jupyter/run_notebooks.py notebooks/01_feature_dataset.ipynb …

Fails if a cell fails, or if a cell shows nothing although the saved notebook has an output there. --write saves the outputs in
the notebooks. --in-place runs them where they are, so that Rust notebooks find what `saescope notebook setup` built there. Prints
the time of each cell.
"""

import argparse
import pathlib
import shutil
import tempfile
import time

import nbformat
from nbclient import NotebookClient


def run(path, folder):
    """Executes a notebook in a folder. Returns it, the seconds until the kernel is ready, and the seconds of each cell."""
    notebook = nbformat.read(path, as_version=4)
    started, seconds = {}, []
    client = NotebookClient(
        notebook,
        timeout=600,
        startup_timeout=300,
        resources={"metadata": {"path": str(folder)}},
        on_cell_execute=lambda cell, cell_index: started.update({cell_index: time.perf_counter()}),
        on_cell_executed=lambda cell, cell_index, execute_reply: seconds.append(
            time.perf_counter() - started[cell_index]
        ),
        record_timing=False,
    )
    begin = time.perf_counter()
    with client.setup_kernel():
        ready = time.perf_counter() - begin
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                client.execute_cell(cell, index, store_history=True)
    return notebook, ready, seconds


def kinds(notebook):
    """The kinds and forms of each cell's outputs, without finished progress bars, which only slow machines show."""

    def forms(output):
        data = output.get("data", {})
        is_bar = str(data.get("text/html", "")).startswith('<div style="opacity:.6;font-size:12px">')
        return set() if is_bar else {(output.output_type, form) for form in data or ["text"]}

    return [set().union(*map(forms, cell.get("outputs", []))) for cell in notebook.cells]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("notebooks", nargs="+", type=pathlib.Path)
    arguments.add_argument("--write", action="store_true")
    arguments.add_argument("--in-place", action="store_true")
    arguments = arguments.parse_args()
    for path in arguments.notebooks:
        kept = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as folder:
            if arguments.in_place:
                folder = path.parent
            else:
                shutil.copy(path, folder)
            executed, ready, seconds = run(path, folder)
        if arguments.write:
            # The kernel's own metadata changes with its version.
            executed.metadata = kept.metadata
            nbformat.write(executed, path)
        missing = [f"cell {i}: no {old - new}" for i, (new, old) in enumerate(zip(kinds(executed), kinds(kept))) if old - new]
        if missing:
            raise SystemExit(f"{path}: missing outputs: {'; '.join(missing)}")
        cells = " ".join(f"{s:.2f}" for s in seconds)
        print(f"{path.name}: {len(seconds)} cells; kernel ready after {ready:.2f} s, cells {cells} s", flush=True)


if __name__ == "__main__":
    main()
