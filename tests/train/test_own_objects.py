"""A person's own network, data, loss, transform, metrics: that they are what is trained, and that resuming holds."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import cutaway
from cutaway.checkpoints import Run, find, read_tensors, restore
from cutaway.errors import BundleError, CutawayError, DataError, Interrupted, NetworkError, SettingsError
from cutaway.train import TrainSettings, per_picture, train
from cutaway.train.own import transformed

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 6, 6), dtype=np.uint8)
PIXELS[20:] //= 2
DATA = (PIXELS, np.arange(40) // 20)
HELD_OUT = (PIXELS[18:22], np.array([0, 0, 1, 1]))


class Small(nn.Sequential):
    """6x6 pictures of two classes, with dropout, so that generators matter."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2))


def settings(tmp_path, **changes):
    base = {"epochs": 2, "batch_size": 8, "lr": 0.01, "log_every": 1, "out": tmp_path / "run"}
    return TrainSettings(**base | changes)


def stopping_after(batches):
    """A `Track` that sends this process SIGTERM while it trains on the batch of that number."""

    def track(items, description, total=None):
        nonlocal batches
        for item in items:
            if description.startswith("epoch"):
                if batches == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
                batches -= 1
            yield item

    return track


def weights(out):
    return {name: entry.digest for name, entry in find(out, prefer="last").manifest.files.items()}


def losses(out):
    return [entry["loss"] for entry in Run(out).journal() if entry["kind"] == "step"]


def focal(logits, targets):
    chosen = logits.log_softmax(1).gather(1, targets[:, None])
    return (-((1 - chosen.exp()) ** 2) * chosen).mean()


def noisy(pictures, generator):
    return (pictures.int() + torch.randint(-9, 10, pictures.shape, generator=generator)).clamp(0, 255).to(torch.uint8)


def tossed(pictures):
    return pictures.flip(3) if torch.rand(()) < 0.5 else pictures


def brightness(logits, labels):
    return (logits.argmax(1) == labels).float().mean() + 1


OWN = {
    "nothing more": {},
    "loss": {"loss": focal},
    "transform with a generator": {"transform": noisy},
    "transform of the global generator": {"transform": tossed},
    "metric": {"metrics": {"bright": brightness}},
}


@pytest.mark.parametrize("own", OWN.values(), ids=OWN)
def test_the_same_call_goes_on_bit_for_bit(tmp_path, own):
    arguments = {"network": Small, "data": DATA} | own
    train(settings(tmp_path / "whole"), **arguments)
    stopped = settings(tmp_path / "stopped")
    with pytest.raises(Interrupted):
        train(stopped, track=stopping_after(3), **arguments)
    trained = train(stopped, **arguments)
    assert weights(stopped.out) == weights(tmp_path / "whole" / "run")
    assert [entry.equality for entry in trained.last.manifest.resumed] == ["bitwise"]


def test_a_module_is_copied_and_the_room_can_be_called(tmp_path):
    torch.manual_seed(5)
    network = Small()
    before = [parameter.clone() for parameter in network.parameters()]
    trained = cutaway.train(settings(tmp_path), network=network, data=DATA)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), before, strict=True))
    assert not torch.equal(trained.restored.network[1].weight, network[1].weight)
    assert trained.restored.spec.name == f"own:{__name__}.Small"
    assert f"test_accuracy={trained.test_accuracy}" in repr(trained)
    for result in (trained, trained.best, trained.restored):
        assert trained.best.path.name in repr(result)
        assert len(repr(result)) < 300 + 2 * len(str(tmp_path))
    first = cutaway.train(settings(tmp_path / "one", epochs=1, lr=1e-12, weight_decay=0), network=network, data=DATA)
    assert torch.allclose(first.restored.network[1].weight, network[1].weight, atol=1e-6)


def test_a_class_is_built_under_the_runs_seed(tmp_path):
    made = []

    def build(num_classes, input_shape):
        made.append((num_classes, input_shape))
        return Small()

    lr = {"epochs": 1, "lr": 1e-12, "weight_decay": 0}
    bundles = [
        train(settings(tmp_path / str(i), seed=s, **lr), network=build, data=DATA) for i, s in enumerate((1, 1, 2))
    ]
    a, b, c = (bundle.restored.network[1].weight for bundle in bundles)
    assert torch.equal(a, b)
    assert not torch.allclose(a, c, atol=1e-3)
    assert made[0] == (2, (1, 6, 6))


def test_a_bundle_of_an_own_network_needs_it_again(tmp_path):
    trained = train(settings(tmp_path, epochs=1), network=Small(), data=DATA)
    with pytest.raises(NetworkError, match=r"(?s)Hand it in again.*--network python:MODULE:FACTORY"):
        restore(trained.run)
    restored = restore(trained.run, network=Small())
    saved = read_tensors(trained.best.path, trained.best.manifest, "model")
    assert torch.equal(restored.network[4].bias, saved["4.bias"])
    with pytest.raises(BundleError, match="don't fit"):
        restore(trained.run, network=nn.Sequential(nn.Flatten(), nn.Linear(36, 2)))


class Fails(nn.Module):
    def forward(self, x):
        return x.shap


class Pair(Small):
    def forward(self, x):
        return super().forward(x), x


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), r"\[2, 3\].*\[2, 2\]"),
        (nn.Sequential(nn.Flatten(), nn.Linear(49, 2)), r"cannot take two pictures of 6x6.*Do its layers fit"),
        (Fails(), r"AttributeError: .*'shap'.*See .*test_own_objects.py, line \d+"),
        (Pair(), r"with a tuple.*return the logits alone"),
        (lambda: 7, "no nn.Module but a int"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_in_words(tmp_path, network, said):
    with pytest.raises(NetworkError, match=said):
        train(settings(tmp_path), network=network, data=DATA)


def test_the_loss_is_the_one_that_was_handed_in(tmp_path):
    """With a rate of nearly nothing, the first loss is that of the initial weights."""

    def scaled(logits, targets):
        return 3 * F.cross_entropy(logits, targets)

    still = {"epochs": 1, "lr": 1e-12, "weight_decay": 0}
    train(settings(tmp_path / "own", **still), network=Small, data=DATA, loss=scaled)
    train(settings(tmp_path / "plain", **still), network=Small, data=DATA)
    own, plain = losses(tmp_path / "own" / "run"), losses(tmp_path / "plain" / "run")
    assert own == pytest.approx([3 * loss for loss in plain], rel=1e-6)


def test_another_loss_than_before_is_refused_unless_it_is_overridden(tmp_path):
    def other(logits, targets):
        return F.cross_entropy(logits, targets)

    arguments = {"network": Small, "data": DATA}
    with pytest.raises(Interrupted):
        train(settings(tmp_path), loss=focal, track=stopping_after(3), **arguments)
    with pytest.raises(BundleError, match=rf"(?s)loss +was {__name__}\.focal, now none.*--override loss"):
        train(settings(tmp_path), **arguments)
    trained = train(settings(tmp_path), loss=other, override=["loss"], **arguments)
    (resumption,) = trained.last.manifest.resumed
    assert resumption.equality == "overridden"
    assert f"loss was {__name__}.focal" in resumption.because[0]
    assert trained.last.manifest.state["own"]["loss"].endswith("other")


@pytest.mark.parametrize(
    ("own", "error", "said"),
    [
        ({"loss": lambda logits, targets: logits}, CutawayError, r"gave a tensor \[8, 2\], not a scalar"),
        ({"loss": lambda logits, targets: 1.0}, CutawayError, "gave a float"),
        ({"loss": nn.Linear(2, 2)}, SettingsError, "neither trained nor saved"),
        ({"transform": lambda pictures: pictures.float()}, DataError, "torch.float32"),
        ({"transform": lambda pictures: pictures[:, :, 1:]}, DataError, r"\[8, 1, 5, 6\]|\[32, 1, 5, 6\]"),
        ({"metrics": {"accuracy": brightness}}, SettingsError, "metric accuracy already"),
        ({"metrics": {"two words": brightness}}, SettingsError, "two words"),
        ({"metrics": {"mine": lambda logits, labels: "many"}}, CutawayError, "gave no number"),
    ],
)
def test_what_does_not_do_its_part_is_told_in_words(tmp_path, own, error, said):
    with pytest.raises(error, match=said):
        train(settings(tmp_path), network=Small, data=DATA, **own)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label_smoothing": 0.1}, "label_smoothing"),
        ({"balance": "loss"}, "balance"),
        ({"loss": "focal"}, "setting loss"),
    ],
)
def test_settings_that_an_own_loss_leaves_without_effect_are_refused(tmp_path, changes, said):
    with pytest.raises(SettingsError, match=said):
        train(settings(tmp_path, **changes), network=Small, data=DATA, loss=focal)


def test_weights_to_begin_with_are_not_for_an_own_network(tmp_path):
    with pytest.raises(SettingsError, match="Weights to begin with"):
        train(settings(tmp_path, weights=tmp_path / "w.pth"), network=Small, data=DATA)


def test_a_transform_changes_the_training_pictures_and_no_others(tmp_path):
    """Of black pictures only the biases learn; the validation sees the pictures as they are."""
    trained = train(
        settings(tmp_path, epochs=1, weight_decay=0), network=Small, data=DATA, transform=lambda pictures: pictures * 0
    )
    values = read_tensors(trained.last.path, trained.last.manifest, "model")
    assert trained.metrics[0].valid_loss != pytest.approx(np.log(2), abs=1e-3)
    other = train(settings(tmp_path / "other", epochs=1, weight_decay=0), network=Small, data=DATA)
    assert not torch.equal(read_tensors(other.last.path, other.last.manifest, "model")["1.weight"], values["1.weight"])


def test_a_transform_with_a_generator_of_its_own_is_told_and_makes_no_claim(tmp_path):
    own = np.random.default_rng(1)

    def jitter(pictures):
        return (pictures + own.integers(0, 100)).to(torch.uint8)

    arguments, notes = {"network": Small, "data": DATA, "transform": jitter}, []
    with pytest.raises(Interrupted):
        train(settings(tmp_path), track=stopping_after(3), on_note=notes.append, **arguments)
    assert any("generator of its own" in note for note in notes)
    trained = train(settings(tmp_path), **arguments)
    assert [entry.equality for entry in trained.last.manifest.resumed] == ["statistical"]


def test_per_picture_draws_for_each_picture(tmp_path):
    flips = per_picture(lambda picture: picture.flip(2) if torch.rand(()) < 0.5 else picture)
    torch.manual_seed(0)
    pictures = torch.arange(20, dtype=torch.uint8).reshape(10, 1, 1, 2)
    flipped = (flips(pictures, torch.Generator()) != pictures).any(dim=(1, 2, 3))
    assert 0 < flipped.sum() < 10
    drawn = per_picture(lambda picture, generator: picture + torch.randint(9, (), generator=generator).to(torch.uint8))
    assert torch.equal(
        drawn(pictures, torch.Generator().manual_seed(3)), drawn(pictures, torch.Generator().manual_seed(3))
    )


def test_an_own_metric_is_everywhere_and_decides_where_it_is_monitored(tmp_path):
    seen = []

    def falling(logits, labels):
        assert logits.shape == (4, 2)
        assert labels.shape == (4,)
        seen.append(10.0 - len(seen))  # the last is of the test split
        return torch.tensor(seen[-1])

    trained = train(
        settings(tmp_path, epochs=3, monitor="valid_falling", monitor_mode="max", keep_last=2),
        network=Small,
        data=(DATA, HELD_OUT, HELD_OUT),
        metrics={"falling": falling},
    )
    assert [metrics.scalars()["valid_falling"] for metrics in trained.metrics] == [10, 9, 8]
    assert trained.best.manifest.progress.epoch == 1
    assert trained.best.manifest.metrics["valid_falling"] == 10
    lines = Run(trained.run).metrics_csv.read_text().splitlines()
    assert lines[0].endswith("valid_falling")
    assert [line.rpartition(",")[2] for line in lines[1:]] == ["10.0", "9.0", "8.0"]
    assert list(Run(trained.run).journal())[-1]["test_falling"] == 7


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"monitor": "valid_mine"}, "Whether more or less"),
        ({"monitor": "valid_yours", "monitor_mode": "max"}, "no metric 'valid_yours'.*valid_mine"),
    ],
)
def test_what_cannot_be_monitored_is_refused_before_anything_begins(tmp_path, changes, said):
    with pytest.raises(SettingsError, match=said):
        train(settings(tmp_path, **changes), network=Small, data=DATA, metrics={"mine": brightness})
    assert not (tmp_path / "run").exists()


def test_other_data_is_refused(tmp_path):
    train(settings(tmp_path, epochs=1), network=Small, data=DATA)
    other = (PIXELS.copy(), DATA[1])
    other[0][3, 3, 3] ^= 1
    with pytest.raises(BundleError, match=r"data +was arrays from arrays in memory, now other pictures"):
        train(settings(tmp_path, epochs=1), network=Small, data=other)
    with pytest.raises(DataError, match="own:arrays"):
        train(TrainSettings(data="own:arrays", out=tmp_path / "new"))


def test_a_factory_by_name_needs_permission_and_then_trains_restores_and_resumes(tmp_path):
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\n"
        "def tiny(num_classes, width=4):\n"
        "    return nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.Linear(width, num_classes))\n"
    )
    script = """
import numpy as np, sys
from cutaway import TrainSettings, restore, train, CutawayError
data = (np.zeros((20, 6, 6), np.uint8), np.arange(20) % 2)
settings = TrainSettings(
    network="python:my_networks:tiny", network_arguments={"width": 3}, epochs=1, batch_size=8, out="run"
)

def named(name):
    return settings.model_copy(update={"network": "python:" + name})

for attempt in (
    lambda: train(settings, data=data),
    lambda: train(settings, data=data, allow_code=["my_network"]),
    lambda: train(named("my_networks:none"), data=data, allow_code=["my_networks"]),
    lambda: train(named("os.path"), data=data, allow_code=["os"]),
):
    try:
        attempt()
    except CutawayError as error:
        print(error, "my_networks" in sys.modules)
train(settings, data=data, allow_code=["my_networks"])
train(settings, data=data, allow_code=["my_networks"])
try:
    restore(settings.out)
except CutawayError as error:
    print(error)
print(restore(settings.out, allow_code=["my_networks"]).network)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", str(Path.cwd()))])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second, third, fourth, fifth, *network = done.stdout.splitlines()
    assert "was not allowed" in first
    assert first.endswith("False")
    assert "--allow-code my_networks" in second
    assert second.endswith("False")
    assert "cannot be imported" in third
    assert "not the name of a factory" in fourth
    assert "was not allowed" in fifth
    assert "out_features=3" in "".join(network)


def test_settings_are_checked_again_however_they_were_changed(tmp_path):
    base = settings(tmp_path, epochs=1)
    assert base.changed(lr=0.5, out=str(tmp_path / "other")) == settings(tmp_path, epochs=1).model_copy(
        update={"lr": 0.5, "out": tmp_path / "other"}
    )
    with pytest.raises(SettingsError, match="'lr' cannot be -1"):
        base.changed(lr=-1)
    with pytest.raises(SettingsError, match=r"no setting named 'epoch'.*'epochs'"):
        base.changed(epoch=1)
    with pytest.raises(SettingsError, match="'epochs' cannot be 0"):
        train(base.model_copy(update={"epochs": 0}), network=Small, data=DATA)
    trained = train(base.model_copy(update={"out": str(tmp_path / "text")}), network=Small, data=DATA)
    assert trained.run == tmp_path / "text"


class Photos:
    """Pictures of many sizes, as torchvision's data sets give them."""

    classes = ["dark", "light"]

    def __len__(self):
        return 24

    def __getitem__(self, index):
        noise = np.random.default_rng(index).integers(0, 100, (9 + index, 12, 3)) + 100 * (index % 2)
        return Image.fromarray(noise.astype(np.uint8)), index % 2


@pytest.mark.parametrize("loading", [{}, {"memory_limit": 0, "workers": 1}], ids=["in memory", "by a worker"])
def test_photos_of_many_sizes_are_trained_on_and_the_same_call_goes_on(tmp_path, loading):
    def network(num_classes, input_shape):
        assert input_shape == (3, 8, 8)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(num_classes))

    changes = {"image_size": 8, "mixup": 0.2} | loading
    arguments = {"network": network, "data": Photos(), "loss": F.cross_entropy}
    train(settings(tmp_path / "whole", image_size=8, mixup=0.2), **arguments)
    with pytest.raises(Interrupted):
        train(settings(tmp_path, **changes), track=stopping_after(2), **arguments)
    trained = train(settings(tmp_path, **changes), **arguments)
    assert trained.restored.preprocessing.resize == "shorter"
    assert trained.restored.classes == ("dark", "light")
    assert weights(tmp_path / "run") == weights(tmp_path / "whole" / "run")


def test_a_second_argument_that_is_a_setting_gets_no_generator():
    def brighter(pictures, amount=9):
        return pictures + amount

    def drawn(pictures, generator=None):
        return pictures + (0 if generator is None else 1)

    pictures = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    assert transformed(brighter, pictures, seed=0, step=0).eq(9).all()
    assert transformed(drawn, pictures, seed=0, step=0).eq(1).all()
