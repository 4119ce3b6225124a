"""Runs `cutaway` commands, and scripts, in forks of a process that has imported all, so that none costs its own start.

Reads one job a line from stdin and answers with one line, both JSON; without a script the words are a command's:

    {"script": null, "words": ["inspect", "layers", "runs/first"], "folder": DIR, "out": FILE, "err": FILE}
    {"status": 0}
"""

import json
import os
import runpy
import signal
import sys
import threading
import traceback

import matplotlib.figure  # noqa: F401 - imported before the fork, as all of these
import onnxruntime  # noqa: F401
import onnxscript  # noqa: F401
import torch
import torch.onnx
import torchvision  # noqa: F401

from cutaway.cli import main

TIMEOUT_S = 300


def live(job):
    """The child's whole life; never returns."""
    os.setsid()
    signal.alarm(TIMEOUT_S)
    status = 70
    try:
        os.chdir(job["folder"])
        for target, name in ((1, job["out"]), (2, job["err"])):
            os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), target)
        if job["script"] is None:
            status = main(job["words"])
        else:
            sys.argv = [job["script"], *job["words"]]
            runpy.run_path(job["script"], run_name="__main__")
            status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - the process ends here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def serve():
    assert threading.active_count() == 1
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            live(job)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps({"status": os.waitstatus_to_exitcode(status)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve()
