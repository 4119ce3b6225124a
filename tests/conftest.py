"""Shared by all tests: pictures, who runs what, and one thread a process, so that two don't fight for two cores."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ.setdefault("OMP_NUM_THREADS", "1")


# Long tests that share nothing with the others of their file, and may run on any worker.
APART = (
    "tests/serve/export/test_families.py::",
    "tests/cli/test_commands.py::test_the_demo_",
    "tests/examples/",
    "tests/faults/test_kills.py::",
    "tests/train/test_resuming.py::test_a_stopped_and_resumed_run",
)


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist nobody asks
def pytest_xdist_make_scheduler(config, log):
    """For `--dist loadfile`: a file's tests stay together, which makes its fixtures once, but for those of `APART`.

    pytest-xdist hands out the largest groups first, so these come last and fill up what the files left. (Its own
    `loadgroup` would do, but pytest-xdist 3.8 doesn't group anything under pytest 9.2.)
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return nodeid if nodeid.startswith(APART) else super()._split_scope(nodeid)

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of 66 small pictures of three classes that differ in brightness."""
    folder = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0)
    for index, name in enumerate(("dark", "grey", "light")):
        (folder / name).mkdir()
        for number in range(22):
            pixels = noise.integers(0, 90, (30, 36, 3)) + 80 * index
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def forked():
    """Runs a command's words, or a script with words, in a folder, by a fork of a process that has imported all."""
    service = [sys.executable, Path(__file__).with_name("forked.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(service, start_new_session=True, **pipes) as process:

        def run(words, folder, script=None):
            with tempfile.TemporaryDirectory() as beside:
                out, err = Path(beside, "out"), Path(beside, "err")
                job = {"script": script, "words": words, "folder": str(folder), "out": str(out), "err": str(err)}
                process.stdin.write(json.dumps(job) + "\n")
                process.stdin.flush()
                status = json.loads(process.stdout.readline())["status"]
                return subprocess.CompletedProcess(words, status, out.read_text(), err.read_text())

        yield run
        process.stdin.close()


@pytest.fixture
def pretended_gpu(monkeypatch):
    """A device `cuda:0` that the CPU computes for: see `pretended_gpu.py`."""
    spec = importlib.util.spec_from_file_location("pretended_gpu", Path(__file__).with_name("pretended_gpu.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.pretended(monkeypatch) as device:
        yield device


@pytest.fixture(scope="module")
def launch():
    """Starts headless Chromium, with further flags."""
    path = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if Path(path).exists()), None)
    try:
        from playwright.sync_api import expect, sync_playwright
    except ImportError:
        path = None
    if path is None:
        reason = "no Chromium or no Playwright: apt-get install chromium; pip install playwright"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    flags = [
        "--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--no-first-run", "--disable-quic", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
    ]  # fmt: skip
    expect.set_options(timeout=60_000)  # a busy machine is not a fault of the page
    with sync_playwright() as playwright:
        yield lambda *further: playwright.chromium.launch(executable_path=path, args=[*flags, *further])


@pytest.fixture(scope="module")
def browser(launch):
    chromium = launch("--disable-gpu")
    yield chromium
    chromium.close()
