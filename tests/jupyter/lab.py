"""Opens a notebook in JupyterLab as a user would, runs all of its cells, and takes a picture.

    python -m venv venv && venv/bin/pip install jupyterlab==4.6.6 playwright==1.65.2
    target/release/saescope kernel install --prefix venv
    venv/bin/python tests/jupyter/lab.py notebooks/02_definition_trees.ipynb docs/jupyterlab.png --chromium /usr/bin/chromium

Fails unless every cell runs, the definition tree is drawn, and the tree is in the picture.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from playwright.sync_api import expect, sync_playwright

SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def serve(folder):
    """Starts JupyterLab in a folder. Returns its process and address."""
    for name, settings in SETTINGS.items():
        extension, plugin = name.rsplit("/", 1)
        path = pathlib.Path(folder, "settings", extension, f"{plugin}.jupyterlab-settings")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    port = free_port()
    environment = os.environ | {
        "JUPYTERLAB_SETTINGS_DIR": f"{folder}/settings",
        "JUPYTERLAB_WORKSPACES_DIR": f"{folder}/workspaces",
        "JUPYTER_CONFIG_DIR": f"{folder}/config",
        "JUPYTER_RUNTIME_DIR": f"{folder}/runtime",
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.port", str(port)]
    command += ["--IdentityProvider.token=", "--ServerApp.root_dir", f"{folder}/files"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{address}/api/status").read()
            return process, address
        except OSError:
            time.sleep(0.1)
    raise SystemExit("JupyterLab does not answer")


def run_all(page, address, name):
    """Opens a notebook, runs its cells and waits for the last one."""
    page.goto(f"{address}/lab/tree/{name}?reset")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
    # Clear saved outputs, so that every output comes from this run.
    page.get_by_role("menuitem", name="Edit", exact=True).click()
    page.get_by_role("menuitem", name="Clear Outputs of All Cells").click()
    expect(page.locator(".jp-CodeCell .jp-OutputArea-output")).to_have_count(0)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    cells = page.locator(".jp-CodeCell")
    for i in range(cells.count()):
        prompt = cells.nth(i).locator(".jp-InputPrompt").first
        expect(prompt).to_have_text(f"[{i + 1}]:", timeout=60_000)
    expect(page.locator("[data-mime-type='application/vnd.jupyter.stderr']")).to_have_count(0)
    expect(page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']")).to_have_count(0)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("notebook", type=pathlib.Path)
    arguments.add_argument("picture", type=pathlib.Path)
    arguments.add_argument("--chromium", default="/usr/bin/chromium")
    arguments = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        files = pathlib.Path(folder, "files")
        files.mkdir()
        shutil.copy(arguments.notebook, files)
        server, address = serve(folder)
        flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        flags += ["--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=flags)
        try:
            page = browser.new_page(viewport={"width": 1240, "height": 860}, device_scale_factor=1.5)
            run_all(page, address, arguments.notebook.name)
            tree = page.locator(".jp-OutputArea-output svg", has=page.locator("text", has_text="body")).first
            expect(tree).to_be_visible()
            labels = tree.locator("text").all_text_contents()
            labels = {label.strip() for label in labels}
            assert {"*", "body", "blood", "students"} <= labels, labels
            page.keyboard.press("Control+b")
            tree.evaluate("tree => tree.closest('.jp-Cell').scrollIntoView({ block: 'start' })")
            page.locator(".jp-Notebook").first.evaluate("notebook => document.activeElement.blur()")
            page.wait_for_timeout(800)
            box = tree.bounding_box()
            assert box["y"] > 0 and box["y"] + box["height"] < 860, box
            page.screenshot(path=arguments.picture)
            print(f"{arguments.notebook.name}: all cells run, a tree of {len(labels)} labels drawn, {arguments.picture}")
        finally:
            browser.close()
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
