"""What faults are done to: small trainings, as the command that a person would type."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cutaway.checkpoints import Manifest, Run, find
from cutaway.checkpoints.manifest import Data, Environment, Monitored, Progress
from cutaway.networks import NetworkSpec
from cutaway.preprocessing import Preprocessing
from cutaway.settings import TrainSettings, to_yaml

SCRIPT = Path(__file__).with_name("doomed_trainings.py")
# Of the machine, not of the training.
TIMES = ("seconds", "wait_seconds", "images_per_second", "gpu_memory_mb")
SPEC = NetworkSpec(name="mlp", num_classes=2, input_shape=(1, 4, 4), arguments={"hidden": 3})


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative for a signal), what it printed, and how often it met each moment."""

    status: int
    said: str
    counts: dict[str, int]


class Nursery:
    """A process that forks a child for each command; see doomed_trainings.py."""

    def __init__(self, hash_seed: int) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": str(hash_seed)}
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def run(self, settings: TrainSettings, **job) -> Ended:
        """Runs `cutaway train` on these settings."""
        beside = settings.out.with_name(settings.out.name + "-command")
        beside.mkdir(parents=True, exist_ok=True)
        config, log, counts = beside / "settings.yaml", beside / "log.txt", beside / "counts.json"
        config.write_text(to_yaml(settings), encoding="utf-8")
        for file in (log, counts):
            file.unlink(missing_ok=True)
        job = {"words": ["train", "--config", str(config)], "log": str(log), "counts": str(counts)} | job
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the process that forks the trainings died"
        met = json.loads(counts.read_text()) if counts.exists() else {}
        return Ended(json.loads(answer)["status"], log.read_text(), met)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


def mount(where, *options):
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", *options, "tmpfs", str(where)], capture_output=True, text=True)
    return done.returncode == 0


@pytest.fixture
def disk(tmp_path):
    """A file system of 700 kB of its own, of which a test may do what it likes."""
    where = tmp_path / "disk"
    where.mkdir()
    if not (hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("mount") and mount(where, "size=700k")):
        assert not os.environ.get("CI"), "CI must be able to mount a tmpfs"
        pytest.skip("mounting a small tmpfs needs root")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


@pytest.fixture
def fill(disk):
    """Takes all room of `disk` but some bytes."""

    def take(*, leave: int) -> None:
        state = os.statvfs(disk)
        free = state.f_bavail * state.f_frsize
        (disk / "ballast").write_bytes(bytes(max(0, free - leave)))

    return take


@pytest.fixture(scope="session")
def nurseries():
    """Two, with different hash seeds, so that no order of a set could go unnoticed between a run and its resume."""
    both = Nursery(1), Nursery(2)
    yield both
    for nursery in both:
        nursery.close()


@pytest.fixture
def small(pictures):
    """Makes settings of a training that takes about a second: 52 pictures, 4 steps an epoch."""

    def make(out: Path, **changes) -> TrainSettings:
        base = {"data": f"folder:{pictures}", "network": "mlp", "network_arguments": {"hidden": 16}, "epochs": 2}
        base |= {"batch_size": 16, "lr": 0.01, "log_every": 1, "image_size": 28, "device": "cpu", "out": out}
        return TrainSettings(**base | changes)

    return make


@pytest.fixture
def outcome():
    """What two runs have to share: the last bundle's files by hash, and every step and epoch of the journal."""

    def take(out: Path) -> dict[str, object]:
        last = find(out, prefer="last")
        untimed = [{name: value for name, value in entry.items() if name not in TIMES} for entry in Run(out).journal()]
        files = {name: entry.digest for name, entry in last.manifest.files.items()}
        return {"bundle": last.path.name, "files": files, "journal": untimed}

    return take


@pytest.fixture(scope="session")
def spec():
    """The network of `make_manifest`."""
    return SPEC


@pytest.fixture(scope="session")
def make_manifest():
    """Makes the manifest of a tiny bundle, by its step."""
    return manifest


def manifest(step):
    return Manifest(
        network=SPEC,
        classes=("cat", "dog"),
        preprocessing=Preprocessing(size=(4, 4), color="grey", mean=(0.5,), std=(0.25,)),
        progress=Progress(epoch=step, batch=0, step=step),
        phase="validated",
        metrics={"valid_accuracy": step / 10},
        monitored=Monitored(metric="valid_accuracy", mode="max"),
        configuration={},
        optimizer=[],
        data=Data(name="d", fingerprint="f", source="s", sizes={}),
        environment=Environment(versions={}, device="cpu", threads=1, platform="Linux"),
        created="2026-01-01T00:00:00+00:00",
        files={},
    )
