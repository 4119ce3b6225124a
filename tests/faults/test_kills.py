"""A training that is killed at any moment, again and again, against the one that was left alone.

`CUTAWAY_KILLS` says how many kills in all; `make faults` asks for 100.
"""

import json
import math
import os
import random
import signal
from collections import Counter, deque

import pytest

from cutaway.checkpoints import Run, find, verify_bundle

pytestmark = pytest.mark.faults

# Every command of these either dies of SIGKILL or ends well; whatever else it does is a fault.
SETTINGS = {
    "dropout": {
        "network": "resnet-small",
        "network_arguments": {"width": 4, "dropout": 0.5},
        "optimizer": "adam",
        "save_every": 1,
    },
    "a worker": {"workers": 1, "memory_limit": 0, "label_smoothing": 0.1, "save_every": 2, "keep_every": 4},
    "in the foreground": {
        "network": "lenet5",
        "network_arguments": {},
        "optimizer": "sgd",
        "schedule": "constant",
        "channels_last": False,
        "save_in_background": False,
        "save_every": 1,
    },
    "two workers, fused, channels last": {
        "network": "fashion-cnn-bn",
        "network_arguments": {},
        "workers": 2,
        "memory_limit": 0,
        "save_every": 1,
    },
    "torchvision": {
        "network": "torchvision:squeezenet1_1",
        "network_arguments": {},
        "image_size": 32,
        "save_every": 3,
        "keep_last": 3,
    },
}
MOMENTS = (
    "beginning",
    "step",
    "writing",
    "saving",
    "renamed",
    "pruning",
    "validation",
    "epoch edge",
    "journal",
)
KILLS = int(os.environ.get("CUTAWAY_KILLS", "20"))
IN_A_ROW = 4


@pytest.mark.timeout(60 + 30 * KILLS)
@pytest.mark.parametrize(
    "number",
    [pytest.param(number, id=name, marks=[pytest.mark.slow] if number else []) for number, name in enumerate(SETTINGS)],
)
def test_a_run_killed_at_any_moment_goes_on_as_if_nothing_had_happened(
    tmp_path, number, nurseries, small, outcome, record_property
):
    changes = list(SETTINGS.values())[number]
    wanted = math.ceil(KILLS / len(SETTINGS))
    whole = small(tmp_path / "whole", **changes)
    reference = nurseries[0].run(whole)
    assert reference.status == 0, reference.said
    expected, steps = outcome(whole.out), 8
    draw = random.Random(number)
    moments = deque(MOMENTS)
    moments.rotate(-number * wanted)
    killed: Counter[str] = Counter()
    runs = 0
    while killed.total() < wanted:
        runs += 1
        killed_one = small(tmp_path / f"killed-{runs}", **changes)
        run = Run(killed_one.out)
        in_a_row = min(IN_A_ROW, wanted - killed.total())
        for launch in range(in_a_row):
            # A stratum is drawn first and then a moment in it, among as many as are left of the training.
            left = max(1 - _newest_step(run) / steps, 0.1)
            moment = next(name for name in moments if reference.counts[name] * left >= 1)
            moments.remove(moment)
            moments.append(moment)
            at = draw.randint(1, int(reference.counts[moment] * left))
            if _leftovers(run) and draw.random() < 0.25:
                moment, at = "clearing", draw.randint(1, 4)
            whole_before = _whole(run)
            ended = nurseries[(launch + 1) % 2].run(killed_one, moment=moment, at=at, signal=signal.SIGKILL)
            where = f"at {moment} {at}, launch {launch + 1} of run {runs}:\n{ended.said}"
            assert ended.status in (0, -signal.SIGKILL), where
            assert _whole(run) >= min(2, whole_before), f"bundles were lost {where}"
            _check_readable(run, where)
            if ended.status == 0:
                break
            killed[moment] += 1
        ended = nurseries[0].run(killed_one)
        assert ended.status == 0, ended.said
        assert "set aside" not in ended.said
        assert outcome(killed_one.out) == expected, f"after kills at {dict(killed)}"
        assert not [path.name for path in run.checkpoints.iterdir() if not path.name.startswith("step-")]
        header, *rows = run.metrics_csv.read_text().splitlines()
        assert {row.count(",") for row in rows} == {header.count(",")}
    record_property("kills", dict(killed))
    assert killed.total() >= wanted


@pytest.mark.parametrize("part", ["generators", "memory of the optimizer"])
def test_the_comparison_catches_a_resume_that_leaves_something_out(tmp_path, part, nurseries, small, outcome):
    """The negative control: were the comparison blind, the kills would prove nothing."""
    changes = SETTINGS["dropout"]
    whole, killed = small(tmp_path / "whole", **changes), small(tmp_path / "killed", **changes)
    assert nurseries[0].run(whole).status == 0
    assert nurseries[1].run(killed, moment="step", at=15, signal=signal.SIGKILL).status == -signal.SIGKILL
    assert find(killed.out, prefer="last").manifest.progress.step in (2, 3)
    ended = nurseries[0].run(killed, without=[part])
    assert ended.status == 0, ended.said
    assert outcome(killed.out)["files"] != outcome(whole.out)["files"]
    assert outcome(killed.out)["journal"] != outcome(whole.out)["journal"]


def _leftovers(run):
    return list(run.checkpoints.glob(".tmp-*"))


def _newest_step(run):
    stored = run.bundles()
    return stored[-1].manifest.progress.step if stored else 0


def _whole(run):
    return len([verify_bundle(path) for path in run.bundle_paths()])


def _check_readable(run, where):
    """Whatever a person may look at after a crash: every bundle, the references, the journal's whole lines."""
    for path in run.bundle_paths():
        verify_bundle(path)
    if run.bundle_paths():
        for reference in (run.path, f"{run.path}@best", f"{run.path}@last"):
            find(reference)
        lines = run.metrics_jsonl.read_text().splitlines()
        steps = [entry["step"] for entry in run.journal() if entry["kind"] == "step"]
        assert steps == list(range(1, len(steps) + 1)), where
        assert len(steps) >= _newest_step(run), f"a bundle is ahead of the journal {where}"
        for line in lines[:-1]:
            json.loads(line)
