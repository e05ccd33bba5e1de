"""Executes notebooks as a user would, in a copy of their folder.

    python tests/jupyter/run_notebooks.py notebooks/01_feature_dataset.ipynb …

A cell that fails fails the run, and so does a cell that shows nothing although the notebook as it is kept has an output there.
With --write the outputs are kept in the notebooks. With --in-place they run where they are: Rust notebooks find what
`saescope notebook setup` has built there. The time of each cell is printed.
"""

import argparse
import pathlib
import shutil
import tempfile
import time

import nbformat
from nbclient import NotebookClient


def run(path, folder):
    """Executes a notebook with the files of a folder around it; the executed notebook and the seconds of each cell."""
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
    """Which kinds of output each cell has, and in which forms; without what is left of bars, which slow machines show."""

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
            # What the kernel says of itself changes with its version.
            executed.metadata = kept.metadata
            nbformat.write(executed, path)
        missing = [f"cell {i}: no {old - new}" for i, (new, old) in enumerate(zip(kinds(executed), kinds(kept))) if old - new]
        if missing:
            raise SystemExit(f"{path}: less than the outputs that are kept: {'; '.join(missing)}")
        cells = " ".join(f"{s:.2f}" for s in seconds)
        print(f"{path.name}: {len(seconds)} cells; kernel ready after {ready:.2f} s, cells {cells} s", flush=True)


if __name__ == "__main__":
    main()
