"""Two writers of one run, lock files of any kind, and clocks that go backwards."""

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from cutaway.checkpoints import Run, write_bundle
from cutaway.checkpoints.lock import only_writer
from cutaway.checkpoints.runs import bundle_name
from cutaway.errors import BundleError
from cutaway.networks import build
from cutaway.train import loop, train

pytestmark = [pytest.mark.faults, pytest.mark.timeout(60)]

# Holds a lock as cutaway does, without the seconds that importing it takes.
HOLDER = """
import fcntl, json, os, sys
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.lockf(descriptor, fcntl.LOCK_EX)
os.ftruncate(descriptor, 0)
os.write(descriptor, sys.argv[2].replace("PID", str(os.getpid())).encode())
if os.fork() == 0:
    fcntl.lockf(os.open(sys.argv[1] + "-child", os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
    os._exit(0)
sys.stdin.read()
"""


@contextlib.contextmanager
def held(directory, content):
    """Another process with the lock; it has a child, as a training with workers has."""
    words = [sys.executable, "-S", "-c", HOLDER, str(directory / ".lock"), content]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()
            process.stdin.close()


def owner(since):
    return json.dumps({"pid": 0, "since": since}).replace("0", "PID", 1)


def test_the_lock_names_its_owner_and_its_age_and_a_dead_owner_s_is_free(tmp_path):
    with held(tmp_path, owner(time.time() - 3600)) as process:
        with pytest.raises(BundleError, match=rf"process {process.pid}, for 36\d\d s"), only_writer(tmp_path):
            pass
        process.kill()
        process.wait()
        # Its child lives on, as an orphaned worker would, and must not keep the lock.
        with only_writer(tmp_path):
            assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (owner(time.time() + 86400), "for 0 s"),
        ("", "an unknown process"),
        ("[1]", "an unknown process"),
        ("[" * 999, "an unknown process"),
        ('{"pid": "\\u001b[2J", "since": 1}', "an unknown process"),
        ('{"pid": 1, "since": ' + "9" * 400 + "}", "an unknown process"),
        ('{"pid": 1, "since": "yesterday"}', "an unknown process"),
    ],
    ids=["from the future", "empty", "list", "deep", "steering", "too long ago", "words"],
)
def test_a_lock_is_a_lock_whatever_its_file_says(tmp_path, content, said):
    with held(tmp_path, content):
        with pytest.raises(BundleError, match=said) as refused, only_writer(tmp_path):
            pass
        assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\xff\0rubbish", b"[" * 5000, b'{"pid": 1, "since": 1}'])
def test_rubbish_in_a_lock_file_that_nobody_holds_is_no_lock(tmp_path, content):
    (tmp_path / ".lock").write_bytes(content)
    with only_writer(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_a_lock_that_its_holder_removed_meanwhile_keeps_nobody_out_and_is_taken_anew(tmp_path, monkeypatch):
    """Between opening the file and locking it, a training that had failed took its empty directory away."""
    calls, lockf = [], fcntl.lockf

    def lock_after_removal(descriptor, how):
        if not calls:
            shutil.rmtree(tmp_path / "runs")
        calls.append(descriptor)
        lockf(descriptor, how)

    monkeypatch.setattr(fcntl, "lockf", lock_after_removal)
    with only_writer(tmp_path / "runs" / "a"):
        assert json.loads((tmp_path / "runs" / "a" / ".lock").read_text())["pid"] == os.getpid()
    assert len(calls) == 2


def test_only_what_was_made_for_the_lock_and_is_empty_goes_with_it(tmp_path):
    def fail(*written):
        with contextlib.suppress(KeyError), only_writer(tmp_path / "runs" / "a"):
            for name in written:
                (tmp_path / "runs" / "a" / name).touch()
            raise KeyError

    fail()
    assert list(tmp_path.iterdir()) == []
    fail("config.yaml")
    assert (tmp_path / "runs/a/config.yaml").exists()
    (tmp_path / "runs/a/config.yaml").unlink()
    fail()
    assert (tmp_path / "runs/a").is_dir()  # it was there before


def test_a_link_in_place_of_the_lock_is_refused_and_its_target_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(BundleError, match="cannot be written"), only_writer(tmp_path / "run"):
        pass
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_directory_in_place_of_the_lock_is_told(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(BundleError, match="cannot be written: Is a directory"), only_writer(tmp_path):
        pass


def test_a_file_system_without_locks_is_told_and_not_taken_for_another_process(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refused)
    with pytest.raises(BundleError, match="cannot be locked: No locks available"), only_writer(tmp_path):
        pass


def test_with_the_clock_moved_back_the_newest_is_still_the_one_of_the_last_step(tmp_path, make_manifest, spec):
    run = Run(tmp_path)
    run.create()
    for step, created in ((9, "2030-01-01T00:00:00+00:00"), (10, "2020-01-01T00:00:00+00:00"), (100, "1970-01-01")):
        manifest = make_manifest(step).model_copy(update={"created": created})
        path = run.checkpoints / bundle_name(manifest.progress, manifest.phase)
        write_bundle(path, manifest, {"model": build(spec).state_dict()})
        os.utime(path, (10**9 - step, 10**9 - step))
    assert [bundle.manifest.progress.step for bundle in run.bundles()] == [9, 10, 100]
    assert run.newest_whole(pytest.fail).manifest.progress.step == 100
    assert run.prune(keep_last=2, keep_best=0) == []
    assert [bundle.manifest.progress.step for bundle in run.bundles()] == [10, 100]


def test_steps_are_ordered_as_numbers(tmp_path, make_manifest, spec):
    run = Run(tmp_path)
    run.create()
    for step in (99_999_999, 100_000_000):
        for phase in ("validated", "training"):
            manifest = make_manifest(step).model_copy(update={"phase": phase})
            write_bundle(run.checkpoints / bundle_name(manifest.progress, phase), manifest, {})
    found = [(bundle.manifest.progress.step, bundle.manifest.phase) for bundle in run.bundles()]
    assert found == [(step, phase) for step in (99_999_999, 100_000_000) for phase in ("training", "validated")]


def test_a_run_whose_clock_goes_backwards_is_the_same_run(tmp_path, small, outcome, monkeypatch):
    """Only the monotonic clock decides when a bundle is due; the other one jumps a year back at every look."""
    reference = small(tmp_path / "whole")
    train(reference)
    now = [time.time()]

    def earlier():
        now[0] -= 365 * 86400
        return max(0.0, now[0])

    settings = small(tmp_path / "run", save_minutes=1)
    minutes = itertools.count(time.monotonic(), 61.0)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", earlier)
        patch.setattr(loop.time, "monotonic", lambda: next(minutes))
        saved = []
        write = Run.prune
        patch.setattr(Run, "prune", lambda run, *keep: saved.append(run.bundle_paths()[-1].name) or write(run, *keep))
        train(settings)
    assert outcome(settings.out) == outcome(reference.out)
    assert {"step-00000002", "step-00000003"} <= set(saved), "a minute passed at every step"
