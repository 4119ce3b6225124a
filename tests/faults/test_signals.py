"""Signals to a training at counted moments: it ends in order and goes on exactly, or saves and goes on at once."""

import signal

import pytest

from cutaway.checkpoints import Run, verify_bundle

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

ENDINGS = {"SIGTERM": 143, "SIGINT": 130}
CHANGES = {"network": "resnet-small", "network_arguments": {"width": 4, "dropout": 0.5}}


@pytest.mark.parametrize(
    ("name", "moment", "at", "changes", "steps"),
    [
        ("SIGTERM", "step", 10, {}, {3}),
        ("SIGINT", "step", 10, {}, {3}),
        ("SIGTERM", "step", 10, {"workers": 2, "memory_limit": 0}, {3}),
        ("SIGINT", "step", 10, {"workers": 2, "memory_limit": 0}, {3}),
        # From here on one does as the other.
        pytest.param("SIGTERM", "validation", 3, {}, {4}, marks=pytest.mark.slow),
        pytest.param("SIGINT", "writing", 5, {"save_every": 1}, {1, 2, 3, 4}, marks=pytest.mark.slow),
        pytest.param("SIGTERM", "renamed", 2, {"save_every": 1}, {1, 2, 3, 4}, marks=pytest.mark.slow),
        pytest.param("SIGINT", "pruning", 3, {"save_every": 1}, {3, 4, 5, 6}, marks=pytest.mark.slow),
        pytest.param("SIGTERM", "journal", 8, {}, {1, 2, 3, 4}, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_run_in_order_and_the_same_command_goes_on(
    tmp_path, nurseries, small, outcome, name, moment, at, changes, steps
):
    whole, stopped = (small(tmp_path / out, **CHANGES, **changes) for out in ("whole", "stopped"))
    assert nurseries[0].run(whole).status == 0
    ended = nurseries[1].run(stopped, moment=moment, at=at, signal=int(getattr(signal, name)))
    assert ended.status == ENDINGS[name], ended.said
    assert "the same command goes on from there" in ended.said
    assert "Traceback" not in ended.said
    paths = Run(stopped.out).bundle_paths()
    assert verify_bundle(paths[-1]).progress.step in steps
    assert not list(Run(stopped.out).checkpoints.glob(".tmp-*"))
    again = nurseries[0].run(stopped)
    assert again.status == 0, again.said
    assert outcome(stopped.out) == outcome(whole.out)


@pytest.mark.parametrize(("moment", "at", "step"), [("step", 6, 2), ("validation", 1, 5), ("saving", 5, 5)])
def test_usr1_saves_and_the_run_goes_on(tmp_path, nurseries, small, outcome, moment, at, step):
    # In the background, how far the training has come when a bundle is half written is up to the machine.
    changes = CHANGES | {"keep_every": 1, "save_in_background": moment != "saving"}
    whole, asked = (small(tmp_path / out, **changes) for out in ("whole", "asked"))
    assert nurseries[0].run(whole).status == 0
    ended = nurseries[1].run(asked, moment=moment, at=at, signal=int(signal.SIGUSR1))
    assert ended.status == 0, ended.said
    saved = [verify_bundle(path) for path in Run(asked.out).bundle_paths()]
    assert (step, "training") in [(manifest.progress.step, manifest.phase) for manifest in saved]
    assert outcome(asked.out) == outcome(whole.out)
