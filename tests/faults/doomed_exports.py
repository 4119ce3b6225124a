"""Runs one `cutaway export` in forks of a process that has imported everything; SIGKILL meets each at another moment.

Reads the command's words from stdin as JSON, and writes one line for each moment of `MOMENTS`, also JSON. The network
is traced once, and then again only where that is what SIGKILL meets.

    {"moment": "writing", "status": -9, "left": ["model.onnx", ".tmp-..."], "earlier": true}
"""

import functools
import json
import os
import pathlib
import signal
import sys
import tempfile
import threading
import traceback

import onnx
import onnxscript  # noqa: F401 - imported before the fork, as all of these
import torch
import torch.onnx

from cutaway.cli import exporting, main  # noqa: F401
from cutaway.serve import writing
from cutaway.serve.export import pipeline, reference

TIMEOUT_S = 120
EARLIER = b"\x08 as every ONNX file begins"


def die(*arguments, **named):
    os.kill(os.getpid(), signal.SIGKILL)


def write_half(path, *parts):
    content = b"".join(parts)
    path.write_bytes(content[: len(content) // 2])
    die()


def after(owner, name):
    plain = getattr(owner, name)

    @functools.wraps(plain)
    def watched(*arguments, **named):
        plain(*arguments, **named)
        die()

    setattr(owner, name, watched)


MOMENTS = {
    "tracing": lambda: setattr(pipeline, "trace", die),
    "writing": lambda: setattr(writing, "write_synced", write_half),
    "written": lambda: after(writing, "write_synced"),
    "verifying": lambda: setattr(reference, "verify", die),
    "verified": lambda: after(reference, "verify"),
    "naming": lambda: setattr(pathlib.Path, "replace", die),
    "named": lambda: after(pathlib.Path, "replace"),
}


def traced(words):
    """What tracing gives in this command: in a fork of its own, because autograd cannot run in one that follows it."""
    with tempfile.TemporaryFile() as file:
        child = os.fork()
        if child == 0:
            convert = pipeline.convert

            def write(*arguments, **named):
                file.write(convert(*arguments, **named).SerializeToString())
                file.flush()
                os._exit(0)

            pipeline.convert = write
            live(lambda: None, words)
        assert os.waitpid(child, 0)[1] == 0
        file.seek(0)
        return file.read()


def live(prepare, words):
    """The child's whole life; never returns."""
    signal.alarm(TIMEOUT_S)
    try:
        prepare()
        torch.manual_seed(0)  # the network's weights are what its factory draws
        main(words)
    except BaseException:  # noqa: BLE001 - the process ends here
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(70)


def run(words):
    out = pathlib.Path(words[words.index("--out") + 1])
    model = traced(words)
    for moment, prepare in MOMENTS.items():
        for path in out.parent.iterdir():
            path.unlink()
        out.write_bytes(EARLIER)
        child = os.fork()
        if child == 0:
            if moment != "tracing":
                pipeline._model = lambda *_: onnx.load_from_string(model)
            live(prepare, words)
        _, status = os.waitpid(child, 0)
        said = {
            "moment": moment,
            "status": os.waitstatus_to_exitcode(status),
            "left": sorted(path.name for path in out.parent.iterdir()),
            "earlier": out.read_bytes() == EARLIER,
        }
        sys.stdout.write(json.dumps(said) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    assert threading.active_count() == 1
    run(json.loads(sys.stdin.read()))
