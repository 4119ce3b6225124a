"""A loss of power at any point of writing and pruning, replayed on a file system that keeps no promise but fsync's.

The order of what `write_bundle` and `prune` ask of the system is recorded from Python's own audit events. The model
then assumes the worst that POSIX allows: without its fsync a file's bytes may be there, missing, cut short or rubbish;
without its directory's fsync a name may be what it was at any time since the last one, each name by itself, so that
even half a rename is possible. At each cut all combinations are laid out where they are few and a seeded sample where
they are many, and the real reader looks at them.
"""

import itertools
import os
import random
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from cutaway.checkpoints import Run, verify_bundle, write_bundle
from cutaway.checkpoints.runs import bundle_name
from cutaway.errors import BundleError
from cutaway.networks import build
from cutaway.train.journal import Journal

pytestmark = pytest.mark.faults

SAVES = 5
SAMPLES = 16


@dataclass(frozen=True)
class Event:
    """What was asked of the system, on paths below the recorded root; `contents` of the files after it."""

    kind: str  # make, directory, sync, rename, remove
    path: Path
    target: Path | None = None
    contents: dict[Path, bytes] = field(default_factory=dict)


class Recorder:
    """Listens to Python's audit events, which no function that touches a file can avoid."""

    listening: "Recorder | None" = None

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[Event] = []
        self.marks: dict[int, list[str]] = {}  # number of events before it -> what was reached then

    def note(self, kind, path, target=None):
        # Events come before the deed: what is bound to fail changes nothing.
        possible = path.parent.is_dir() and path.exists() == (kind not in ("make", "directory"))
        if possible and path.is_relative_to(self.root):
            # Contents as they are before this event, so after the one before it.
            self._see()
            self.events.append(Event(kind, path, target))

    def _see(self):
        if self.events:
            files = {path: path.read_bytes() for path in self.root.rglob("*") if path.is_file()}
            self.events[-1].contents.update(files)

    def mark(self, said):
        self._see()
        self.marks.setdefault(len(self.events), []).append(said)

    def hear(self, name, arguments):
        if name == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT:
            self.note("make", Path(os.fsdecode(arguments[0])))
        elif name == "os.mkdir":
            self.note("directory", at(arguments[0], arguments[2]))
        elif name == "os.rename":
            self.note("rename", at(arguments[0], arguments[2]), at(arguments[1], arguments[3]))
        elif name in ("os.remove", "os.rmdir"):
            self.note("remove", at(arguments[0], arguments[1]))


def at(path, directory):
    """A path that the system was given, relative to an open directory or not."""
    if directory == -1:
        return Path(os.fsdecode(path))
    return Path(f"/proc/self/fd/{directory}").readlink() / os.fsdecode(path)


def hear(name, arguments):
    recorder = Recorder.listening
    if recorder is not None and name in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"):
        Recorder.listening = None
        try:
            recorder.hear(name, arguments)
        finally:
            Recorder.listening = recorder


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, make_manifest, spec):
    """A run with saves and prunings, from nothing."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("the names behind open directories are read from /proc")
    # One thread: the order between files that are written side by side is one of those that the model tries anyway.
    root = tmp_path_factory.mktemp("recorded").resolve()
    recorder = Recorder(root)
    sync = os.fsync

    def noted_sync(descriptor):
        Recorder.listening = None
        try:
            sync(descriptor)
            recorder.note("sync", Path(f"/proc/self/fd/{descriptor}").readlink())
        finally:
            Recorder.listening = recorder

    run = Run(root / "runs" / "shirts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", noted_sync)
        patch.setattr("cutaway.checkpoints.bundle.ThreadPoolExecutor", OneAfterTheOther)
        patch.setattr("cutaway.checkpoints.tensor_files.ThreadPoolExecutor", OneAfterTheOther)
        sys.addaudithook(hear)
        Recorder.listening = recorder
        try:
            run.create()
            journal = Journal(run)
            for step in range(1, SAVES + 1):
                journal.step(step, loss=1.0, lr=0.1)
                journal.sync()
                torch.manual_seed(step)
                tensors = {"model": build(spec).state_dict(), "training": {"step": torch.tensor(step)}}
                path = run.checkpoints / bundle_name(make_manifest(step).progress, "validated")
                write_bundle(path, make_manifest(step), tensors)
                recorder.mark(f"committed {path.name}")
                doomed = run.superfluous(keep_last=2)
                recorder.mark("pruning " + " ".join(bundle.path.name for bundle in doomed))
                assert run.prune(keep_last=2) == []
            journal.close()
        finally:
            Recorder.listening = None
    assert [path.name for path in run.bundle_paths()] == ["step-00000004-validated", "step-00000005-validated"]
    return recorder


class OneAfterTheOther:
    """Stands in for a ThreadPoolExecutor."""

    def __init__(self, workers):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def map(self, function, items):
        return [function(item) for item in items]

    def submit(self, function, *arguments):
        function(*arguments)
        return self

    def result(self):
        return None


@dataclass
class Node:
    """A file or directory behind its names. `names` maps each to what it may turn out to be after a loss of power."""

    is_directory: bool
    now: bytes = b""
    durable: bytes | None = None
    entries: dict[str, "Node"] = field(default_factory=dict)
    names: dict[str, list["Node | None"]] = field(default_factory=dict)

    def put(self, name, node):
        self.names.setdefault(name, [self.entries.get(name)])
        if node is None:
            self.entries.pop(name)
        else:
            self.entries[name] = node
        self.names[name].append(node)


class Disk:
    """What may be found after a loss of power, given what was asked of the system until then."""

    def __init__(self, root):
        self.root = root
        self.top = Node(is_directory=True)

    def node(self, path):
        node = self.top
        for part in path.relative_to(self.root).parts:
            node = node.entries[part]
        return node

    def apply(self, event):
        name = event.path.name
        parent = self.node(event.path.parent) if event.path != self.root else self.top
        if event.kind in ("make", "directory"):
            parent.put(name, Node(is_directory=event.kind == "directory"))
        elif event.kind == "rename":
            node = parent.entries[name]
            self.node(event.target.parent).put(event.target.name, node)
            parent.put(name, None)
        elif event.kind == "remove":
            parent.put(name, None)
        else:
            node = self.node(event.path)
            if node.is_directory:
                node.names = {}
            else:
                node.durable = node.now
        for path, content in event.contents.items():
            self.node(path).now = content

    def uncertain(self):
        """Every choice that the disk has: (node, name or None for its bytes) -> the possibilities."""
        choices, todo, seen = {}, [self.top], set()
        while todo:
            node = todo.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            for name, values in node.names.items():
                distinct = list({id(value): value for value in values}.values())
                if len(distinct) > 1:
                    choices[id(node), name] = distinct
                todo.extend(value for value in distinct if value is not None)
            todo.extend(node.entries.values())
            if not node.is_directory and node.durable != node.now:
                # What was synced before more was added stays; the rest is open.
                kept = node.durable if node.durable and node.now.startswith(node.durable) else b""
                rest = node.now[len(kept) :]
                half = rest[: len(rest) // 2]
                ends = (rest, b"", half, bytes(len(rest)), half.ljust(len(rest), b"\xa5"))
                choices[id(node), None] = [kept + end for end in ends]
        return choices

    def states(self, draw):
        """All combinations of choices where they are few; otherwise both extremes and a sample."""
        choices = self.uncertain()
        keys, values = list(choices), list(choices.values())
        total = 1
        for possible in values:
            total *= len(possible)
        if total <= SAMPLES:
            picked = itertools.product(*values)
        else:
            samples = [tuple(draw.choice(possible) for possible in values) for _ in range(SAMPLES)]
            picked = [tuple(p[0] for p in values), tuple(p[-1] for p in values), *samples]
        for combination in picked:
            yield dict(zip(keys, combination, strict=True))

    def lay_out(self, chosen, where, node=None):
        """Writes one state into a directory."""
        node = node or self.top
        where.mkdir()
        for name in node.entries.keys() | node.names.keys():
            child = chosen.get((id(node), name), node.entries.get(name))
            if child is None:
                continue
            if child.is_directory:
                if not (where / name).exists():
                    self.lay_out(chosen, where / name, child)
            else:
                (where / name).write_bytes(chosen.get((id(child), None), child.now))


def outliving(recorder, tmp_path, *, look=None, drop=lambda event: False):
    """Cuts the power after each event and looks at what is left.

    Args:
        look: `check` by default.
        drop: Which fsyncs to leave out of the recording.

    Returns:
        How many states were looked at.

    Raises:
        AssertionError: A state broke a promise.
    """
    draw = random.Random(0)
    disk = Disk(recorder.root)
    committed, doomed, states = set(), set(), 0
    for number in range(len(recorder.events) + 1):
        if number:
            event = recorder.events[number - 1]
            if not drop(event):
                disk.apply(event)
        for said in recorder.marks.get(number, ()):
            kind, *names = said.split()
            (committed if kind == "committed" else doomed).update(names)
        for chosen in disk.states(draw):
            states += 1
            where = tmp_path / "replayed"
            disk.lay_out(chosen, where)
            (look or check)(Run(where / "runs" / "shirts"), committed, doomed)
            shutil.rmtree(where)
    return states


def check(run, committed, doomed):
    seen = {path.name: verify_bundle(path) for path in run.bundle_paths()}
    assert committed - doomed <= seen.keys(), "a committed bundle is gone"
    assert len(seen) >= min(2, len(committed)), "fewer than two whole bundles"
    for name, found in seen.items():
        assert bundle_name(found.progress, found.phase) == name
    run.clear_temporary()
    newest = run.newest_whole(on_damage=lambda error: pytest.fail(str(error)))
    assert not committed or newest.path.name >= max(committed)


def check_journal(run, committed, doomed):
    if committed:
        steps = {entry["step"] for entry in run.journal()}
        newest = run.bundles()[-1].manifest.progress.step
        assert steps >= set(range(1, newest + 1)), "the newest bundle is ahead of the journal"


def test_every_committed_bundle_outlives_a_loss_of_power_at_any_point(recorded, tmp_path):
    kinds = [event.kind for event in recorded.events]
    assert kinds.count("rename") >= SAVES + SAVES - 2
    assert outliving(recorded, tmp_path) > 500


def test_no_committed_bundle_is_ahead_of_the_journal_after_a_loss_of_power(recorded, tmp_path):
    assert outliving(recorded, tmp_path, look=check_journal) > 500


def of_a_tensor_file(event):
    return event.path.suffix == ".safetensors"


def of_a_manifest(event):
    return event.path.name == "manifest.json"


def of_the_bundle_s_directory(event):
    return event.path.name.startswith(".tmp-")


def of_the_directory_of_bundles(event):
    return event.path.name == "checkpoints"


def of_the_run_s_directory(event):
    return event.path.name == "shirts"


def of_the_directory_of_runs(event):
    return event.path.name == "runs"


@pytest.mark.parametrize(
    "left_out",
    [
        of_a_tensor_file,
        of_a_manifest,
        of_the_bundle_s_directory,
        of_the_directory_of_bundles,
        of_the_run_s_directory,
        of_the_directory_of_runs,
    ],
)
def test_the_model_notices_when_an_fsync_is_left_out(recorded, tmp_path, left_out):
    """The negative control: each fsync is needed, and the model knows."""
    assert any(event.kind == "sync" and left_out(event) for event in recorded.events)
    with pytest.raises((AssertionError, BundleError, pytest.fail.Exception)):
        outliving(recorded, tmp_path, drop=lambda event: event.kind == "sync" and left_out(event))


def test_the_model_notices_when_pruning_does_not_wait_for_its_rename(recorded, tmp_path):
    events = recorded.events
    after_a_pruning_rename = {
        id(then)
        for before, then in itertools.pairwise(events)
        if before.kind == "rename" and before.target.name.startswith(".tmp-") and then.kind == "sync"
    }
    assert len(after_a_pruning_rename) == SAVES - 2
    with pytest.raises((AssertionError, BundleError, pytest.fail.Exception)):
        outliving(recorded, tmp_path, drop=lambda event: id(event) in after_a_pruning_rename)
