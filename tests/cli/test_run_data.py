"""A bundle's own pictures, found again with the splits that it was trained on."""

import shutil

import pytest

from cutaway.checkpoints import restore
from cutaway.cli.run_data import data_of
from cutaway.errors import DataError
from cutaway.progress import silent
from cutaway.train import TrainSettings, train


@pytest.fixture
def folder(pictures, tmp_path):
    """The pictures, a few of them twice, so that some stand in two splits."""
    folder = shutil.copytree(pictures, tmp_path / "copies")
    for name in ("dark", "light"):
        for number in range(8):
            shutil.copy(folder / name / f"{number}.png", folder / name / f"again-{number}.png")
    return folder


@pytest.mark.parametrize("changes", [{}, {"valid_share": 0.2, "test_share": 0.3, "seed": 4}, {"duplicates": "drop"}])
def test_the_splits_are_those_of_the_training(folder, tmp_path, changes):
    base = {"data": f"folder:{folder}", "network": "mlp", "image_size": 8, "epochs": 1, "batch_size": 16}
    trained = train(TrainSettings(**base | {"out": tmp_path / "run"} | changes))
    restored = restore(trained.best.path)
    found = data_of(restored, track=silent)
    assert found.fingerprint == restored.manifest.data.fingerprint
    assert {name: len(found.split(name)) for name in ("train", "valid", "test")} == restored.manifest.data.sizes


@pytest.mark.parametrize("changes", [{"valid_share": 0.2, "test_share": 0}, {"duplicates": "drop"}])
def test_pictures_that_have_moved_are_split_as_for_the_training(folder, tmp_path, changes):
    base = {"data": f"folder:{folder}", "network": "mlp", "image_size": 8, "epochs": 1, "batch_size": 16}
    restored = restore(train(TrainSettings(**base | {"out": tmp_path / "run"} | changes)).best.path)
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(DataError, match=r"Say where it lies now.*--data folder:PATH"):
        data_of(restored, track=silent)
    found = data_of(restored, f"folder:{moved}", track=silent)
    # Split as usual, some of the test pictures would be ones that it learned.
    assert {name: len(found.split(name)) for name in ("train", "valid", "test")} == restored.manifest.data.sizes
    assert found.fingerprint == restored.manifest.data.fingerprint


def test_other_pictures_are_split_as_usual(folder, pictures, tmp_path):
    base = {"data": f"folder:{folder}", "network": "mlp", "image_size": 8, "epochs": 1, "batch_size": 16}
    trained = train(TrainSettings(**base, valid_share=0.3, out=tmp_path / "run"))
    other = data_of(restore(trained.best.path), f"folder:{pictures}", track=silent)
    assert len(other.valid) == 7


def test_other_pictures_have_their_classes_by_name_also_where_they_are_only_some(folder, pictures, tmp_path):
    base = {"data": f"folder:{folder}", "network": "mlp", "image_size": 8, "epochs": 1, "batch_size": 16}
    restored = restore(train(TrainSettings(**base, out=tmp_path / "run")).best.path)
    some = tmp_path / "some"
    for name in ("light", "grey"):
        shutil.copytree(pictures / name, some / name)
    found = data_of(restored, f"folder:{some}", track=silent)
    assert found.classes == restored.classes == ("dark", "grey", "light")
    for split in (found.train, found.valid, found.test):
        assert [found.classes[label] for label in split.labels] == [path.parent.name for path in split.paths]
    shutil.copytree(pictures / "dark", some / "darker")
    with pytest.raises(DataError, match="darker, grey, light…; the network was trained on dark"):
        data_of(restored, f"folder:{some}", track=silent)


def test_a_share_that_is_none_is_told_in_words(folder, tmp_path):
    base = {"data": f"folder:{folder}", "network": "mlp", "image_size": 8, "epochs": 1, "batch_size": 16}
    restored = restore(train(TrainSettings(**base, out=tmp_path / "run")).best.path)
    restored.manifest.configuration["valid_share"] = "a lot"
    with pytest.raises(DataError, match="'valid_share' cannot be 'a lot'"):
        data_of(restored, track=silent)
