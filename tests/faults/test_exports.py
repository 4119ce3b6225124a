"""Exports that fail or are killed: one sentence and what to do, no half file, and the earlier file is still there."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cutaway.cli import main
from cutaway.errors import ExportError
from cutaway.serve.classifier import Classifier
from cutaway.serve.export import pipeline
from cutaway.serve.writing import check_place, whole_or_nothing

pytestmark = pytest.mark.faults
EARLIER = b"\x08 as every ONNX file begins"

NETWORKS = """
import torch
from torch import nn
from torch.nn import functional


class Sound(nn.Module):
    def __init__(self, num_classes, input_shape):
        super().__init__()
        self.conv = nn.Conv2d(input_shape[0], 4, 3)
        self.head = nn.Linear(4, num_classes)

    def features(self, x):
        return self.conv(x).relu()

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


class StaysInTraining(Sound):
    def __init__(self, num_classes, input_shape):
        super().__init__(num_classes, input_shape)
        self.norm = nn.BatchNorm2d(4)

    def train(self, mode=True):
        return super().train(True)

    def features(self, x):
        return self.norm(super().features(x))


class AlwaysDrops(Sound):
    def features(self, x):
        return functional.dropout(super().features(x))


class OverTheBatch(Sound):
    def features(self, x):
        maps = super().features(x)
        return maps - maps.mean(0)


class Branches(Sound):
    def forward(self, x):
        logits = super().forward(x)
        return 2 * logits if logits.sum() > 0 else logits


class Loops(Sound):
    def forward(self, x):
        logits = super().forward(x)
        for _ in range(int(x.sum().abs()) % 3):
            logits = logits + 1
        return logits


class BatchOfTwo(Sound):
    def forward(self, x):
        return super().forward(x).reshape(2, -1)


class GivesATuple(Sound):
    def forward(self, x):
        return super().forward(x), x
"""


@pytest.fixture
def words(tmp_path, monkeypatch):
    """The words of an export of the network of that name, which a person wrote, to `out/model.onnx`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("networks_that_fail.py").write_text(NETWORKS)
    Path("classes.txt").write_text("a\nb\nc\n")
    Path("prepared.json").write_text(json.dumps({"size": [16, 16], "mean": [0] * 3, "std": [1] * 3}))
    Path("out").mkdir()

    def make(name, *more, out="out/model.onnx"):
        named = ["--network", f"python:networks_that_fail:{name}", "--allow-code", "networks_that_fail"]
        described = ["--classes", "classes.txt", "--preprocessing", "prepared.json"]
        return ["export", *named, *described, "--out", str(out), *more]

    yield make
    sys.modules.pop("networks_that_fail", None)


@pytest.fixture
def earlier(words):
    path = Path("out/model.onnx")
    path.write_bytes(EARLIER)
    return path


def check_said_and_left(capfd, earlier, said):
    """Two lines on stderr, the error and what to do, and of files the earlier one alone."""
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2, lines
    assert lines[0].startswith("cutaway: error: ")
    assert lines[0].endswith(".")
    assert said in "".join(lines)
    assert lines[1].startswith("  ")
    assert lines[1].endswith(".")
    assert earlier.read_bytes() == EARLIER
    assert [path for path in earlier.parent.iterdir() if path.name != "ballast"] == [earlier]


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("StaysInTraining", [], "StaysInTraining stays in training mode after eval()"),
        ("AlwaysDrops", [], "answers the same picture differently each time"),
        ("OverTheBatch", [], "depends on the others of its batch"),
        ("Branches", [], "branches on the values of tensors"),
        ("Branches", ["--no-explain"], "branches on the values of tensors"),
        ("Loops", ["--no-explain"], "branches on the values of tensors"),
        ("BatchOfTwo", [], "does not run on one picture, only on several"),
        ("GivesATuple", [], "with a tuple, and not with logits"),
    ],
)
def test_a_network_that_cannot_be_exported_is_a_sentence_and_what_to_do(name, more, said, words, earlier, capfd):
    assert main(words(name, *more)) == 1
    check_said_and_left(capfd, earlier, said)


def test_a_disk_that_fills_up_leaves_the_earlier_file(words, disk, fill, capfd):
    earlier = disk / "model.onnx"
    earlier.write_bytes(EARLIER)
    fill(leave=8192)
    assert main(words("Sound", out=earlier)) == 1
    check_said_and_left(capfd, earlier, "model.onnx cannot be written: No space left on device")


def test_a_file_that_may_not_grow_leaves_the_earlier_one(words, earlier, capfd):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
    try:
        assert main(words("Sound")) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    check_said_and_left(capfd, earlier, "model.onnx cannot be written: File too large")


def test_a_read_only_disk_is_named_before_the_network_is_traced(words, disk, capfd, monkeypatch):
    monkeypatch.setattr(pipeline, "trace", lambda *_: pytest.fail("the network was traced"))
    earlier = disk / "model.onnx"
    earlier.write_bytes(EARLIER)
    assert subprocess.run(["mount", "-o", "remount,ro", str(disk)]).returncode == 0
    assert main(words("Sound", out=earlier)) == 1
    check_said_and_left(capfd, earlier, f"{disk}: ")
    with pytest.raises(ExportError, match="cannot be written: Read-only file system"):
        check_place(earlier)
    # And where it turned read-only after that.
    with pytest.raises(ExportError, match="cannot be written: Read-only file system"), whole_or_nothing(earlier, b"x"):
        pass


def test_an_export_killed_at_any_moment_leaves_the_earlier_file_or_the_whole_new_one(words):
    command = words("Sound")
    script = Path(__file__).with_name("doomed_exports.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps(command),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment,
        timeout=250,
    )
    ended = [json.loads(line) for line in told.stdout.splitlines()]
    assert [each["status"] for each in ended] == [-9] * len(ended)
    by_moment = {each["moment"]: each for each in ended}
    assert len(by_moment) == 7
    for moment, each in by_moment.items():
        assert each["earlier"] == (moment != "named")
        others = [name for name in each["left"] if name != "model.onnx"]
        assert all(name.startswith(".tmp-") for name in others)
        assert bool(others) == (moment not in ("tracing", "named"))
    Classifier("out/model.onnx")  # of the last one, which was killed when its file had its name
