"""Runs `cutaway` commands in processes that a signal meets at a counted moment, each in a process group of its own.

Reads one job a line from stdin and answers with one line, both JSON:

    {"words": ["train", ...], "log": FILE, "counts": FILE, "moment": "saving", "at": 7, "signal": 9, "without": []}
    {"status": -9}

The interpreter imports everything once and forks for each job, before torch has started any thread, so that a job
costs no start of its own. Without a `moment` the command runs undisturbed. A command that ends by itself leaves
behind how often it met each moment. SIGKILL goes to the whole group, workers included; other signals to the process.
"""

import collections
import contextlib
import functools
import json
import os
import pathlib
import shutil
import signal
import sys
import threading
import traceback

import torch
from torch.optim import optimizer as optimizers

import cutaway.evaluation
from cutaway.checkpoints import bundle, runs, saving, tensor_files
from cutaway.cli import main, training  # noqa: F401 - imported before the fork
from cutaway.train import journal, loop, session, tensorboard
from cutaway.train import training as trainings

TIMEOUT_S = 120


class Moments:
    """Counts what happens, and sends the signal at the one that was chosen.

    A thread is in at most one *room* at a time (saving, pruning, journal, ...), which names the moments of what the
    file system is asked for there.
    """

    def __init__(self, moment, at, signum):
        self.chosen = (moment, at)
        self.signum = signum
        self.process = os.getpid()
        self.counts = collections.Counter()
        self.lock = threading.Lock()
        self.here = threading.local()

    def meet(self, moment, first=lambda: None):
        if moment is None or os.getpid() != self.process:
            return
        with self.lock:
            self.counts[moment] += 1
            met = (moment, self.counts[moment]) == self.chosen
        if met:
            first()
            if self.signum == signal.SIGKILL:
                os.killpg(0, signal.SIGKILL)
            os.kill(self.process, self.signum)

    @property
    def room(self):
        return getattr(self.here, "room", None)

    @contextlib.contextmanager
    def inside(self, room):
        before, self.here.room = self.room, room
        try:
            yield
        finally:
            self.here.room = before


def watch(moments):
    """Patches this process, which is a fork that nothing else runs in."""

    def around(owner, name, moment=None, room=None):
        """A moment before and one after each call; by default that of the room where the call is made."""
        plain = getattr(owner, name)
        assert callable(plain)

        @functools.wraps(plain)
        def watched(*arguments, **named):
            moments.meet(moment or room or moments.room)
            with moments.inside(room or moments.room):
                result = plain(*arguments, **named)
            moments.meet(moment or room or moments.room)
            return result

        setattr(owner, name, watched)

    for owner, name in (
        (os, "fsync"),
        (os, "unlink"),
        (os, "rmdir"),
        (pathlib.Path, "mkdir"),
        (pathlib.Path, "replace"),
        (pathlib.Path, "write_text"),
        (bundle, "write_synced"),
    ):
        around(owner, name)
    around(saving, "write_bundle", room="saving")
    around(bundle, "write_tensors", room="saving")
    around(runs.Run, "prune", room="pruning")
    around(runs.Run, "create", room="beginning")
    around(runs.Run, "clear_temporary", room="clearing")
    around(tensorboard.Board, "begin", room="beginning")
    around(tensorboard.Board, "epoch", room="epoch edge")
    around(session.Session, "end_epoch", room="epoch edge")
    around(session.Session, "save", room="epoch edge")
    around(trainings, "to_yaml", room="beginning")
    around(journal.Journal, "__init__", room="journal")
    around(journal.Journal, "epoch", room="journal")
    around(journal.Journal, "final", room="journal")
    around(torch.Tensor, "backward", moment="step")
    optimizers.register_optimizer_step_pre_hook(lambda *_: moments.meet("step"))
    optimizers.register_optimizer_step_post_hook(lambda *_: moments.meet("step"))
    around(cutaway.evaluation, "logits_of", moment="validation")

    rename, chunks, noted = pathlib.Path.rename, tensor_files._chunks, journal.Journal.step

    def renamed(self, target):
        moments.meet(moments.room)
        result = rename(self, target)
        if moments.room == "saving":
            # From here to the first removal of an older bundle, or the end of the save.
            moments.here.room = "renamed"
        moments.meet(moments.room)
        return result

    def chunked(tensors):
        for chunk in chunks(tensors):
            moments.meet("writing")
            yield chunk

    def torn(self, *arguments, **named):
        moments.meet("journal")
        noted(self, *arguments, **named)

        def tear():
            self._lines.flush()
            os.truncate(self._lines.name, pathlib.Path(self._lines.name).stat().st_size - 9)

        moments.meet("journal", first=tear)

    pathlib.Path.rename = renamed
    tensor_files._chunks = chunked
    journal.Journal.step = torn
    # Small, so that there is a between.
    tensor_files._CHUNK = 2**15
    loop.EVALUATION_BATCH = 2


def leave_out(what):
    """Switches a part of resuming off, to show that the comparison would notice."""
    if what == "generators":
        session.restore_generators = lambda *_: torch.manual_seed(99)
    elif what == "memory of the optimizer":
        session.load_named_state = lambda *_: None
    else:
        raise ValueError(what)


def live(job):
    """The child's whole life; never returns."""
    os.setsid()
    signal.alarm(TIMEOUT_S)
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
        os.dup2(descriptor, target)
    status = 70
    try:
        moments = Moments(job.get("moment"), job.get("at"), job.get("signal", signal.SIGKILL))
        watch(moments)
        for what in job.get("without", ()):
            leave_out(what)
        status = main(job["words"])
        pathlib.Path(job["counts"]).write_text(json.dumps(moments.counts), encoding="utf-8")
    except BaseException:  # noqa: BLE001 - the process ends here
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def serve():
    assert threading.active_count() == 1
    assert torch.get_num_threads() == 1, "a fork would not inherit the other threads"
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            live(job)
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        sys.stdout.write(json.dumps({"status": os.waitstatus_to_exitcode(status)}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    assert shutil.rmtree.avoids_symlink_attacks
    serve()
