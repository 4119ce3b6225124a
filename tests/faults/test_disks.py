"""Disks that are full, read-only, or taken away under a run: a sentence each, and nothing that was saved is lost."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch

from cutaway.checkpoints import Run, verify_bundle, write_bundle
from cutaway.checkpoints.lock import only_writer
from cutaway.checkpoints.saving import Saver
from cutaway.errors import BundleError
from cutaway.train import train

pytestmark = pytest.mark.faults
NOBODY = 65534


def become(user):
    """Permission bits don't bind root, so what they are tested with is done as somebody else."""
    if os.getuid() == 0:
        os.seteuid(user)


@contextlib.contextmanager
def nobody():
    become(NOBODY)
    try:
        yield
    finally:
        become(0)


@pytest.fixture
def open_folder():
    """A folder that everybody can reach, unlike pytest's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def at_step(number, do):
    """A `Track` that does something while the batch of that number is trained on."""

    def track(items, description, total=None):
        nonlocal number
        for item in items:
            if description.startswith("epoch"):
                number -= 1
                if number == 0:
                    do()
            yield item

    return track


def whole(run):
    return [verify_bundle(path).progress.step for path in run.bundle_paths()]


def test_a_full_disk_fails_a_save_in_a_sentence_and_leaves_nothing_behind(disk, fill, make_manifest):
    fill(leave=100_000)
    for count in (1000, 100_000):
        saver = Saver()
        saver.save(disk / f"step-{count}", make_manifest(1), {"model": {"x": torch.zeros(count)}}, after=lambda: None)
        if count == 1000:
            saver.wait()
        else:
            with pytest.raises(BundleError, match="cannot be written: No space left on device"):
                saver.wait()
    assert sorted(path.name for path in disk.iterdir()) == ["ballast", "step-1000"]
    verify_bundle(disk / "step-1000")


def test_a_full_disk_stops_the_run_with_the_reason(disk, small):
    with pytest.raises(BundleError, match="cannot be written: No space left on device"):
        train(small(disk / "run", keep_every=1, save_every=1, network_arguments={"hidden": 8}))


def test_after_a_full_disk_room_lets_the_run_go_on_exactly(tmp_path, disk, small, outcome):
    reference = small(tmp_path / "whole", keep_every=1, save_every=1, network_arguments={"hidden": 8})
    train(reference)
    full = small(disk / "run", keep_every=1, save_every=1, network_arguments={"hidden": 8})
    run = Run(full.out)
    with pytest.raises((BundleError, OSError), match="No space left on device"):
        train(full)
    saved = whole(run)
    assert 1 <= len(saved) < 8
    assert not list(run.checkpoints.glob(".tmp-*")), "what could not be written takes room"
    assert subprocess.run(["mount", "-o", "remount,size=20m", str(disk)]).returncode == 0
    notes = []
    train(full, on_note=notes.append)
    assert f"after step {saved[-1]}" in notes[0]
    assert outcome(full.out) == outcome(reference.out)


def test_a_disk_that_is_full_from_the_start_is_named(disk, fill, small):
    fill(leave=0)
    with pytest.raises(BundleError, match=r"cannot be written: No space left on device"):
        train(small(disk / "run"))


def test_a_read_only_disk_is_named(disk, small, make_manifest):
    assert subprocess.run(["mount", "-o", "remount,ro", str(disk)]).returncode == 0
    with pytest.raises(BundleError, match="run cannot be written: Read-only file system"):
        train(small(disk / "run"))
    with pytest.raises(BundleError, match="cannot be written: Read-only file system"):
        write_bundle(disk / "step-00000001", make_manifest(1), {"model": {"x": torch.zeros(1)}})


def test_a_read_only_directory_is_named_and_left_alone(open_folder):
    (open_folder / "mine").mkdir(mode=0o555)
    with nobody(), pytest.raises(BundleError, match="run cannot be written: Permission denied"):
        Run(open_folder / "mine" / "run").create()
    writing = only_writer(open_folder / "mine" / "run")
    with nobody(), pytest.raises(BundleError, match="run cannot be written: Permission denied"), writing:
        pass
    assert list((open_folder / "mine").iterdir()) == []


def test_a_directory_that_turns_read_only_stops_the_run_at_its_next_step(open_folder, small):
    settings = small(open_folder / "run", save_every=2, save_in_background=False)
    run = Run(settings.out)

    def turn():
        for path in run.tensorboard.rglob("*"):
            path.chmod(0o666)
        run.checkpoints.chmod(0o555)
        become(NOBODY)

    try:
        with pytest.raises(BundleError, match="cannot be written: Permission denied"):
            train(settings, track=at_step(3, turn))
    finally:
        become(0)
        run.checkpoints.chmod(0o755)
    assert whole(run) == [2]
    train(settings)
    assert whole(run)[-1] == 8


def test_files_that_cannot_be_read_are_named(open_folder, small):
    settings = small(open_folder / "run", epochs=1)
    run = Run(settings.out)
    train(settings)
    newest = run.bundle_paths()[-1]
    for path in (newest / "model.safetensors", newest / "manifest.json", newest, run.checkpoints, run.metrics_jsonl):
        mode = path.stat().st_mode
        path.chmod(0)
        with nobody(), pytest.raises(BundleError, match="cannot be read: Permission denied"):
            {run.metrics_jsonl: run.journal, run.checkpoints: run.bundles}.get(path, lambda: verify_bundle(newest))()
        path.chmod(mode)


@pytest.mark.parametrize("in_background", [True, False])
def test_a_run_whose_directory_is_removed_stops_with_the_reason(tmp_path, small, in_background):
    settings = small(tmp_path / "run", save_every=1, save_in_background=in_background)
    trained = []
    track = at_step(3, lambda: settings.out.rename(tmp_path / "away"))

    def counted(items, description, total=None):
        for item in track(items, description, total):
            trained.append(description)
            yield item

    with pytest.raises(BundleError, match="cannot be written: No such file or directory"):
        train(settings, track=counted)
    # The save after the third step fails; at the latest the fourth, which waits for it, tells.
    assert len([description for description in trained if description.startswith("epoch")]) in (3, 4)
    assert not settings.out.exists(), "half of the run came back"


def test_an_old_bundle_that_cannot_be_removed_is_told_of_and_training_goes_on(tmp_path, small, monkeypatch, outcome):
    reference = small(tmp_path / "whole", save_every=1)
    train(reference)
    settings = small(tmp_path / "run", save_every=1)
    remove = shutil.rmtree

    def refused(path, *arguments, **named):
        if "step-00000001" in Path(path).name and not named.get("ignore_errors"):
            raise PermissionError(1, "Operation not permitted")
        remove(path, *arguments, **named)

    monkeypatch.setattr(shutil, "rmtree", refused)
    notes = []
    train(settings, on_note=notes.append)
    told = [note for note in notes if "cannot be removed" in note]
    assert len(told) == 1
    assert "step-00000001 cannot be removed: Operation not permitted" in told[0]
    assert outcome(settings.out) == outcome(reference.out)
    monkeypatch.undo()
    train(settings)
    assert not list(Run(settings.out).checkpoints.glob(".tmp-*")), "the next start removes it"


@pytest.mark.skipif(shutil.which("chattr") is None, reason="needs chattr")
def test_a_bundle_that_the_file_system_protects_is_told_of_and_stays(tmp_path, small):
    settings = small(tmp_path / "run", save_every=1)
    run, notes = Run(settings.out), []

    def protect():
        run_to = next(iter(run.bundle_paths()))
        protected.append(run_to)
        done.append(subprocess.run(["chattr", "+i", str(run_to)], capture_output=True).returncode)

    protected, done = [], []
    try:
        train(settings, track=at_step(3, protect), on_note=notes.append)
        if done != [0]:
            pytest.skip("this file system has no immutable files")
        assert any("cannot be removed: Operation not permitted" in note for note in notes)
        assert protected[0] in run.bundle_paths()
        assert whole(run)[-1] == 8
    finally:
        for path in protected:
            subprocess.run(["chattr", "-i", str(path)], capture_output=True)
