"""Callbacks: which events come when, that looking changes nothing, and what an exception does."""

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.checkpoints import Run, find, read_tensors
from cutaway.errors import Interrupted
from cutaway.train import Callback, TrainSettings, train

DATA = (np.random.default_rng(0).integers(0, 256, (40, 6, 6), dtype=np.uint8), np.arange(40) % 2)


class Small(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))


def settings(tmp_path, **changes):
    return TrainSettings(**{"epochs": 2, "batch_size": 12, "out": tmp_path / "run"} | changes)


class Recorder(Callback):
    def __init__(self):
        self.events = []

    def on_begin(self, event):
        self.events.append(("begin", event.step, event.classes, event.spec.input_shape))

    def on_step(self, event):
        assert isinstance(event.loss, torch.Tensor)
        assert event.network.training
        assert all(parameter.grad is not None for parameter in event.network.parameters())
        self.events.append(("step", event.step, event.epoch))

    def on_epoch(self, event):
        self.events.append(("epoch", event.metrics.epoch, event.metrics.step))

    def on_save(self, event):
        assert (event.path / "manifest.json").is_file()
        self.events.append(("save", event.step))

    def on_end(self, event):
        self.events.append(("end", event.reason, event.step, event.trained and event.trained.run.name))


def test_every_event_comes_in_its_order(tmp_path):
    recorder = Recorder()
    train(settings(tmp_path, save_in_background=False), network=Small, data=DATA, callbacks=[recorder])
    # 36 training pictures in batches of 12; a bundle is told of at the end of the step in hand.
    assert recorder.events == [
        ("begin", 0, ("0", "1"), (1, 6, 6)),
        *[("step", step, 1) for step in (1, 2, 3)],
        ("epoch", 1, 3),
        ("step", 4, 2),
        ("save", 3),
        *[("step", step, 2) for step in (5, 6)],
        ("epoch", 2, 6),
        ("save", 6),
        ("end", "finished", 6, "run"),
    ]
    again = Recorder()
    train(settings(tmp_path), network=Small, data=DATA, callbacks=[again])
    assert again.events == [("begin", 6, ("0", "1"), (1, 6, 6)), ("end", "finished", 6, "run")]


def test_all_are_called_in_the_order_that_they_were_given(tmp_path):
    said = []

    class Says(Callback):
        def __init__(self, name):
            self.name = name

        def on_epoch(self, event):
            said.append(self.name)

    train(settings(tmp_path, epochs=1), network=Small, data=DATA, callbacks=[Says("a"), Says("b")])
    assert said == ["a", "b"]


def test_looking_changes_nothing(tmp_path):
    class Looks(Callback):
        def on_step(self, event):
            event.network.eval()
            torch.rand(7)
            np.random.rand(3)
            event.network(torch.rand(2, 1, 6, 6))

    train(settings(tmp_path / "plain"), network=Small, data=DATA)
    train(settings(tmp_path / "looked"), network=Small, data=DATA, callbacks=[Looks()])
    plain, looked = (find(tmp_path / name / "run", prefer="last").manifest.files for name in ("plain", "looked"))
    assert plain == looked


def test_an_exception_saves_the_run_as_it_stands_and_is_told_with_its_place(tmp_path):
    class Fails(Recorder):
        def on_step(self, event):
            if event.step == 2:
                raise LookupError("no such thing")

    fails = Fails()
    with pytest.raises(LookupError, match="no such thing") as raised:
        train(settings(tmp_path), network=Small, data=DATA, callbacks=[fails])
    assert raised.value.__notes__ == ["raised by Fails.on_step of a cutaway training"]
    assert find(tmp_path / "run", prefer="last").manifest.progress.step == 2
    assert fails.events[-2:] == [("save", 2), ("end", "failed", 2, None)]
    train(settings(tmp_path), network=Small, data=DATA)
    train(settings(tmp_path / "whole"), network=Small, data=DATA)
    files = [find(tmp_path / at, prefer="last").manifest.files for at in ("run", "whole/run")]
    assert files[0] == files[1]


def test_a_callback_may_end_a_run_as_a_signal_does(tmp_path):
    import signal

    class Stops(Recorder):
        def on_step(self, event):
            if event.step == 4:
                signal.raise_signal(signal.SIGINT)

    stops = Stops()
    with pytest.raises(Interrupted):
        train(settings(tmp_path), network=Small, data=DATA, callbacks=[stops])
    assert find(tmp_path / "run", prefer="last").manifest.progress.step == 4
    assert stops.events[-1] == ("end", "interrupted", 4, None)


def test_weights_that_a_callback_changes_are_in_the_next_bundle_and_in_none_before(tmp_path, monkeypatch):
    """The copy of the bundle before is slow here: the callback has to wait for it."""
    import time

    from cutaway.checkpoints import saving

    copy = saving._copy

    def slowly(pairs):
        if any(buffer.shape == (8, 36) for buffer, _ in pairs):
            time.sleep(0.2)
        return copy(pairs)

    monkeypatch.setattr(saving, "_copy", slowly)

    class Clears(Callback):
        def on_epoch(self, event):
            if event.metrics.epoch == 1:
                with torch.no_grad():
                    event.network[1].weight.fill_(7.0)

    train(settings(tmp_path, lr=1e-9), network=Small, data=DATA, callbacks=[Clears()])
    first, second = Run(tmp_path / "run").bundles()
    assert (read_tensors(first.path, first.manifest, "model")["1.weight"] != 7).all()
    assert torch.allclose(read_tensors(second.path, second.manifest, "model")["1.weight"], torch.tensor(7.0))


def test_an_error_of_the_network_or_the_disk_in_a_callback_is_told_as_it_is(tmp_path):
    class Posts(Callback):
        def on_epoch(self, event):
            raise ConnectionError("no answer")

    with pytest.raises(ConnectionError, match="no answer"):
        train(settings(tmp_path), network=Small, data=DATA, callbacks=[Posts()])


def test_after_an_epoch_a_callback_is_given_the_averaged_network_that_was_validated(tmp_path):
    seen = []

    class Looks(Callback):
        def on_epoch(self, event):
            seen.append(event.network[1].weight.clone())

    bundle = train(settings(tmp_path, epochs=1, ema_decay=0.9), network=Small, data=DATA, callbacks=[Looks()]).last
    tensors = read_tensors(bundle.path, bundle.manifest, "training")
    (averaged,) = [tensor for name, tensor in tensors.items() if name.endswith("1.weight")]
    assert torch.equal(seen[0], averaged)
