"""A run that goes on where it was on another kind of device."""

import pytest
import torch

from cutaway.checkpoints import Run, find, restore
from cutaway.errors import Interrupted
from cutaway.train import Callback, TrainSettings, train

gpu = pytest.mark.gpu


class Stops(Callback):
    """Stops the training before its fourth step."""

    def on_step(self, event):
        if event.step == 3:
            raise Interrupted(15, "Stopped.")


def losses(out):
    return {entry["step"]: entry["loss"] for entry in Run(out).journal() if entry["kind"] == "step"}


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("cpu", "cpu"),
        pytest.param("cuda", "cuda", marks=gpu),
        pytest.param("cuda", "cpu", marks=gpu),
        pytest.param("cpu", "cuda", marks=gpu),
    ],
)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_run_goes_on_on_another_device(tmp_path, pictures, first, then, optimizer):
    settings = TrainSettings(
        data=f"folder:{pictures}",
        network="fashion-cnn-bn",
        image_size=28,
        epochs=2,
        batch_size=16,
        lr=0.001,
        optimizer=optimizer,
        ema_decay=0.9,
        log_every=1,
        device=first,
        out=tmp_path / "whole",
    )
    whole = train(settings)
    with pytest.raises(Interrupted):
        train(settings.changed(out=tmp_path / "moved"), callbacks=[Stops()])
    bundle = find(tmp_path / "moved", prefer="last").manifest
    assert bundle.progress.step == 3
    assert bundle.environment.device.startswith(first)
    moved = train(settings.changed(out=tmp_path / "moved", device=then))

    (history,) = moved.last.manifest.resumed
    assert history.equality == ("bitwise" if first == then else "rounding")
    # The same weights and moments: what follows differs by what the two devices round.
    expected, found = losses(tmp_path / "whole"), losses(tmp_path / "moved")
    assert found.keys() == expected.keys()
    for step, loss in expected.items():
        assert found[step] == (loss if first == then or step <= 3 else pytest.approx(loss, rel=1e-3)), step
    states = [restore(trained.last.path).network.state_dict() for trained in (whole, moved)]
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-2, atol=1e-3 if first != then else 0)
    if first == then:
        assert moved.last.manifest.files == whole.last.manifest.files
