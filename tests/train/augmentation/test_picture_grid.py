"""The grid that a person looks at: every tile is what training gets, at its place."""

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cutaway.checkpoints import Run
from cutaway.datasets.split import Split
from cutaway.train import TrainSettings, train
from cutaway.train.augmentation import Mixing, picture_grid

GAP, WIDE_GAP = 3, 14


def tiles(grid, side, columns):
    """Tile (row, column) -> uint8 [side, side, 3]."""
    found = {}
    for column in range(columns):
        left = GAP + column * (side + GAP) + (WIDE_GAP if column else 0)
        for row in range((grid.shape[0] - GAP) // (side + GAP)):
            top = GAP + row * (side + GAP)
            found[row, column] = grid[top : top + side, left : left + side]
    return found


def test_every_tile_is_what_training_gets(augmenter, noise):
    chosen = augmenter("crop", "rotate", color="grey", size=(36, 36))
    images = noise(20, 36, 36, 1)
    split = Split("train", np.zeros(20, np.int64), images.numpy())
    grid = picture_grid(split, chosen._preprocessing, chosen, Mixing(2), epochs=2)
    indices = torch.arange(8) * 20 // 8
    plain = images[indices].permute(0, 3, 1, 2)
    columns = [plain, chosen.batch(plain, 0, indices), chosen.batch(plain, 1, indices)]
    found = tiles(grid, 72, 3)
    assert len(found) == 8 * 3
    for (row, column), tile in found.items():
        wanted = columns[column][row, 0].numpy()
        assert (tile[::2, ::2] == wanted[:, :, None]).all()
        assert (tile[1::2, 1::2] == wanted[:, :, None]).all()


def test_mixed_columns_are_mixed(augmenter):
    images = np.zeros((2, 72, 72, 1), np.uint8)
    images[1] = 200
    chosen, mixing = augmenter(color="grey", size=(72, 72)), Mixing(2, seed=3, mixup=1.0)
    grid = picture_grid(Split("train", np.array([0, 1]), images), chosen._preprocessing, chosen, mixing, epochs=1)
    found = tiles(grid, 72, 2)
    _, targets = mixing(torch.zeros(2, 1, 1, 1), torch.tensor([0, 1]), 0)
    assert found[0, 0].max() == 0
    assert found[0, 1].mean() == pytest.approx(200 * float(targets[0, 1]), abs=0.5)


@pytest.mark.parametrize("loading", [{}, {"memory_limit": 0}])
def test_a_run_with_augmentation_has_the_grid_for_the_report_and_tensorboard(tmp_path, pictures, loading):
    base = {"data": f"folder:{pictures}", "network": "mlp", "epochs": 1, "image_size": 28}
    plain = TrainSettings(**base, out=tmp_path / "plain", **loading)
    varied = TrainSettings(**base, out=tmp_path / "varied", augment=("flip:1",), **loading)
    for settings in (plain, varied):
        train(settings)
    assert not Run(plain.out).augmented.exists()
    grid = np.asarray(Image.open(Run(varied.out).augmented))
    found = tiles(grid, 84, 9)
    for row in range(8):
        assert np.array_equal(found[row, 1], found[row, 0][:, ::-1])
    events = EventAccumulator(str(Run(varied.out).tensorboard)).Reload()
    assert "pictures/augmented" in events.Tags()["images"]
    image = events.Images("pictures/augmented")[0]
    assert (image.height, image.width) == grid.shape[:2]


def test_a_grid_that_cannot_be_written_stops_no_training(tmp_path, pictures, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cutaway.train.training.replace_bytes", full)
    notes = []
    settings = TrainSettings(
        data=f"folder:{pictures}", network="mlp", epochs=1, image_size=28, out=tmp_path / "run", mixup=0.2
    )
    train(settings, on_note=notes.append)
    assert any("augmented.png cannot be written: No space left" in note for note in notes)
