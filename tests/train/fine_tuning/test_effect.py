"""What fine-tuning is for: a few pictures of new classes go further from good weights than from none."""

import numpy as np
import pytest
from PIL import Image

from cutaway.datasets import load
from cutaway.train import TrainSettings, train

OLD = ("T-shirt/top", "Trouser", "Pullover", "Sneaker", "Bag")
NEW = ("Dress", "Coat", "Shirt", "Sandal", "Ankle boot")


def folder_of(path, classes, each):
    """Real pictures of Fashion-MNIST's sample, `each` of a class to learn from and 60 to test on."""
    data = load("fashion-mnist-sample")
    for split, count in ((data.train, each), (data.valid, 20), (data.test, 60)):
        for name in classes:
            target = path / split.name / name.replace("/", " ")
            target.mkdir(parents=True)
            for index in np.flatnonzero(split.labels == data.classes.index(name))[:count]:
                Image.fromarray(split.images[index, :, :, 0]).save(target / f"{index}.png")
    return f"folder:{path}"


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("few"), NEW, 12)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A run over five classes that the fine-tuned network never sees again."""
    folder = tmp_path_factory.mktemp("pretrained")
    settings = TrainSettings(
        data=folder_of(folder / "pictures", OLD, 300),
        out=folder / "run",
        network="resnet-small",
        network_arguments={"width": 8},
        image_size=28,
        epochs=4,
        lr=0.01,
    )
    return train(settings)


def accuracy_after_8_steps(out, data, **changes):
    """On the test split, of two epochs over 60 pictures."""
    base = {"network": "resnet-small", "network_arguments": {"width": 8}, "image_size": 28, "batch_size": 15}
    trained = train(TrainSettings(**base | {"data": data, "epochs": 2, "out": out} | changes))
    assert trained.last.manifest.progress.step == 8
    return trained.test_accuracy


@pytest.mark.slow
def test_a_few_steps_from_good_weights_beat_as_many_from_scratch_at_any_rate(tmp_path, few, pretrained):
    scratch = [accuracy_after_8_steps(tmp_path / f"scratch-{lr}", few, lr=lr) for lr in (0.003, 0.01, 0.03)]
    begins = {"init_from": str(pretrained.run)}
    head = accuracy_after_8_steps(tmp_path / "head", few, lr=0.1, freeze_backbone=2, **begins)
    then_all = {"freeze_backbone": 1, "backbone_lr_scale": 0.1}
    whole = accuracy_after_8_steps(tmp_path / "whole", few, lr=0.03, **then_all, **begins)
    assert pretrained.test_accuracy > 0.8
    assert head > max(scratch) + 0.04
    assert whole > max(scratch) + 0.04
