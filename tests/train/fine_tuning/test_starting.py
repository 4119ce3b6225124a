"""Weights to begin with: found, fitted to the network, told of; and pictures prepared as those weights know them."""

import json
import urllib.error
from pathlib import Path

import pytest
import torch
from torchvision import models

from cutaway.checkpoints import Run, find, read_tensors, restore
from cutaway.checkpoints.foreign import to_pth
from cutaway.errors import BundleError, NetworkError, SettingsError
from cutaway.networks import NetworkSpec, build
from cutaway.settings import validated
from cutaway.train import TrainSettings, train

SHUFFLENET = "shufflenetv2_x0.5-f707e7126e.pth"


@pytest.fixture(scope="module")
def shufflenet():
    """What torchvision could have published: a network with values of its own in every tensor."""
    torch.manual_seed(5)
    network = models.shufflenet_v2_x0_5()
    network.train()(torch.rand(4, 3, 64, 64))
    return network.state_dict()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def settings_for(tmp_path, pictures, **changes):
    base = {"data": f"folder:{pictures}", "image_size": 64, "batch_size": 16, "lr": 1e-5, "epochs": 1}
    return TrainSettings(**base | {"network": "torchvision:shufflenet_v2_x0_5", "out": tmp_path / "run"} | changes)


def trained(settings):
    notes = []
    result = train(settings, on_note=notes.append)
    stored = result.last
    return stored.manifest, read_tensors(stored.path, stored.manifest, "model"), notes


def frozen(tmp_path, pictures, **changes):
    """One epoch that moves the head alone, so that the backbone is still what it began with."""
    return trained(settings_for(tmp_path, pictures, freeze_backbone=1, **changes))


def assert_backbone(tensors, expected):
    same = {name for name in expected if name in tensors and torch.equal(tensors[name], expected[name])}
    assert same == {name for name in expected if not name.startswith("fc.")}


def test_torchvision_s_weights_come_from_its_cache(tmp_path, pictures, cache, shufflenet):
    torch.save(shufflenet, cache / SHUFFLENET)
    manifest, tensors, notes = frozen(tmp_path, pictures, pretrained=True)
    assert_backbone(tensors, shufflenet)
    assert tensors["fc.weight"].shape == (3, 1024)
    assert "ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1: 336 of 338 tensors. New: fc.weight, fc.bias." in notes[0]
    assert manifest.state["began_with"] == {"torchvision": "ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1"}
    assert "weights" not in manifest.network.arguments


def test_pictures_are_prepared_as_torchvision_s_weights_know_them(tmp_path, pictures, cache, shufflenet):
    torch.save(shufflenet, cache / SHUFFLENET)
    manifest, _, _ = frozen(tmp_path, pictures, pretrained=True)
    preprocessing = manifest.preprocessing
    # ImageNet's statistics, and the shorter side at 256 / 224 of the input: 64 * 256 / 224 = 73.14.
    assert (preprocessing.mean, preprocessing.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (preprocessing.size, preprocessing.resize, preprocessing.resize_to) == ((64, 64), "shorter", 74)
    data, _, _ = frozen(tmp_path / "data", pictures, pretrained=True, normalisation="data")
    assert data.preprocessing.mean != preprocessing.mean
    assert data.preprocessing.resize_to == 74


def test_what_cannot_be_fetched_names_the_file_the_folder_and_the_option(tmp_path, pictures, cache, monkeypatch):
    def unreachable(*_, **__):
        raise urllib.error.URLError("no network here")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    with pytest.raises(NetworkError) as error:
        train(settings_for(tmp_path, pictures, pretrained=True))
    assert SHUFFLENET in error.value.message
    assert "no network here" in error.value.message
    assert str(cache) in error.value.hint
    assert "--weights FILE" in error.value.hint


def test_a_damaged_file_in_the_cache_is_told_of(tmp_path, pictures, cache):
    (cache / SHUFFLENET).write_bytes(b"<html>no such file</html>")
    with pytest.raises(NetworkError, match="damaged"):
        train(settings_for(tmp_path, pictures, pretrained=True))


def test_pretrained_weights_run_no_code(tmp_path, pictures, cache):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"conv1.0.weight": Evil()}, cache / SHUFFLENET)
    with pytest.raises(NetworkError, match="damaged"):
        train(settings_for(tmp_path, pictures, pretrained=True))
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize("wrapped", ["", "module.", "backbone.", "model.net."])
def test_a_file_s_names_may_begin_with_anything(tmp_path, pictures, shufflenet, wrapped):
    file = tmp_path / "w.pth"
    torch.save({"state_dict": {wrapped + name: tensor for name, tensor in shufflenet.items()}, "epoch": 3}, file)
    manifest, tensors, _ = frozen(tmp_path, pictures, weights=file)
    assert_backbone(tensors, shufflenet)
    assert manifest.preprocessing.mean == (0.485, 0.456, 0.406)
    assert manifest.state["began_with"] == {"file": "w.pth"}


@pytest.mark.slow
def test_grey_pictures_go_into_colour_weights_as_colour(tmp_path, shufflenet):
    file = tmp_path / "w.pth"
    torch.save(shufflenet, file)
    settings = settings_for(tmp_path, "", data="fashion-mnist-sample", weights=file, image_size=32, freeze_backbone=1)
    manifest, tensors, _ = trained(settings)
    assert manifest.network.input_shape == (3, 32, 32)
    # Pictures that all have one size are seen whole.
    assert (manifest.preprocessing.color, manifest.preprocessing.resize) == ("rgb", "stretch")
    assert_backbone(tensors, shufflenet)


def test_colour_pictures_go_into_grey_weights_as_grey(tmp_path, pictures):
    grey = TrainSettings(network="lenet5", epochs=1, out=tmp_path / "grey", lr=0.01)
    train(grey)
    to_pth(grey.out, tmp_path / "grey.pth")
    settings = settings_for(tmp_path, pictures, network="lenet5", image_size=28, weights=tmp_path / "grey.pth")
    manifest, _, _ = trained(settings)
    assert manifest.preprocessing.color == "grey"
    again, _, _ = trained(
        settings_for(tmp_path, pictures, network="lenet5", image_size=28, init_from=str(grey.out), out=tmp_path / "b")
    )
    assert again.preprocessing.color == "grey"
    assert again.preprocessing.mean == restore(grey.out).preprocessing.mean


def test_a_head_for_the_same_classes_is_kept_and_for_others_is_new(tmp_path, pictures):
    common = {"network": "fashion-cnn-bn", "image_size": 28, "lr": 0.01}
    first = settings_for(tmp_path, pictures, **common, out=tmp_path / "first")
    train(first)
    theirs = read_tensors(find(first.out).path, find(first.out).manifest, "model")
    still = {"lr": 1e-30, "weight_decay": 0.0}
    manifest, kept, notes = trained(settings_for(tmp_path, pictures, **common | still, init_from=str(first.out)))
    assert torch.equal(kept["out.weight"], theirs["out.weight"])
    assert "New" not in notes[0]
    assert manifest.state["began_with"] == {"bundle": find(first.out).manifest.digest()}

    others = tmp_path / "others"
    others.mkdir()
    for name in ("dark", "grey", "light"):
        (others / f"very-{name}").symlink_to(pictures / name)
    _, new, notes = trained(
        settings_for(tmp_path, others, **common | still, init_from=str(first.out), out=tmp_path / "other")
    )
    assert new["out.weight"].shape == theirs["out.weight"].shape
    assert not torch.equal(new["out.weight"], theirs["out.weight"])
    assert torch.equal(new["fc2.weight"], theirs["fc2.weight"])
    assert "New: out.weight, out.bias." in notes[0]


def test_another_network_s_weights_are_refused_in_a_table(tmp_path, pictures):
    torch.save(models.resnet34(num_classes=3).state_dict(), tmp_path / "resnet34.pth")
    with pytest.raises(BundleError) as error:
        train(settings_for(tmp_path, pictures, network="torchvision:resnet18", weights=tmp_path / "resnet34.pth"))
    # All that a resnet18 needs is in a resnet34, and would load without a word.
    assert "layer1.2.conv1.weight" in error.value.message
    assert "unexpected" in error.value.message
    assert "--network" in error.value.hint
    assert "--image-size" not in error.value.hint


def test_weights_of_pictures_of_another_size_are_told_with_the_option(tmp_path, pictures):
    spec = NetworkSpec(name="lenet5", num_classes=3, input_shape=(3, 32, 32))
    torch.save(build(spec).state_dict(), tmp_path / "lenet5.pth")
    with pytest.raises(BundleError, match=r"(?s)fc1\.weight.*--image-size"):
        train(settings_for(tmp_path, pictures, network="lenet5", weights=tmp_path / "lenet5.pth"))


def test_a_part_that_the_network_has_not_is_left_out_and_told(tmp_path, pictures, shufflenet):
    torch.save(shufflenet | {"projector.0.weight": torch.zeros(8, 1024)}, tmp_path / "w.pth")
    _, tensors, notes = frozen(tmp_path, pictures, weights=tmp_path / "w.pth")
    assert_backbone(tensors, shufflenet)
    assert "Left out: projector.0.weight." in notes[0]


def test_a_backbone_alone_will_do(tmp_path, pictures, shufflenet):
    torch.save({name: tensor for name, tensor in shufflenet.items() if not name.startswith("fc")}, tmp_path / "w.pth")
    _, tensors, notes = frozen(tmp_path, pictures, weights=tmp_path / "w.pth")
    assert_backbone(tensors, {name: tensor for name, tensor in shufflenet.items() if not name.startswith("fc")})
    assert "New: fc.weight, fc.bias." in notes[0]


def test_weights_that_are_no_numbers_are_refused(tmp_path, pictures, shufflenet):
    spoiled = {name: tensor.clone() for name, tensor in shufflenet.items()}
    spoiled["conv5.0.weight"][0] = float("nan")
    torch.save(spoiled, tmp_path / "w.pth")
    with pytest.raises(BundleError, match="NaN"):
        train(settings_for(tmp_path, pictures, weights=tmp_path / "w.pth"))


def test_another_run_s_network_must_be_the_same(tmp_path, pictures):
    first = settings_for(tmp_path, pictures, network="resnet-small", network_arguments={"width": 4}, image_size=28)
    train(first)
    common = {"init_from": str(first.out), "image_size": 28, "out": tmp_path / "second"}
    with pytest.raises(SettingsError, match="holds a resnet-small, not a lenet5") as error:
        train(settings_for(tmp_path, pictures, network="lenet5", **common))
    assert error.value.hint == "Give --network resnet-small."
    with pytest.raises(SettingsError, match=r"width +is 4, here its default"):
        train(settings_for(tmp_path, pictures, network="resnet-small", **common))
    dropout = {"width": 4, "dropout": 0.5}
    train(settings_for(tmp_path, pictures, network="resnet-small", network_arguments=dropout, **common))


def test_another_run_s_activation_and_norm_must_be_the_same_as_the_settings_name_them(tmp_path, pictures):
    common = {"network": "lenet5", "image_size": 28}
    first = settings_for(tmp_path, pictures, **common, activation="tanh", norm="group")
    train(first)
    common |= {"init_from": str(first.out), "out": tmp_path / "second"}
    # Weights of the same shapes, which would load without a word and mean something else.
    with pytest.raises(SettingsError, match=r"activation +is tanh, here gelu"):
        train(settings_for(tmp_path, pictures, **common, activation="gelu", norm="group"))
    train(settings_for(tmp_path, pictures, **common, activation="tanh", norm="group"))


def test_weights_of_oblong_pictures_get_oblong_pictures(tmp_path):
    images, labels = torch.randint(0, 256, (24, 20, 32), dtype=torch.uint8), torch.arange(24) % 3
    settings = TrainSettings(network="mlp", batch_size=8, epochs=1, out=tmp_path / "first")
    train(settings, data=(images, labels))
    again = settings.model_copy(update={"init_from": str(settings.out), "out": tmp_path / "second"})
    assert train(again, data=(images, labels)).last.manifest.preprocessing.size == (20, 32)


@pytest.mark.slow
def test_a_run_begins_once_and_needs_its_weights_no_more(tmp_path, pictures, shufflenet):
    file = tmp_path / "w.pth"
    torch.save(shufflenet, file)
    settings = settings_for(tmp_path, pictures, weights=file, schedule="constant")
    whole = settings_for(tmp_path, pictures, weights=file, schedule="constant", epochs=2, out=tmp_path / "whole")
    train(settings)
    train(whole)
    file.unlink()
    train(settings.model_copy(update={"epochs": 2}))
    hashes = [find(f"{run.out}@last").manifest.files["model.safetensors"].sha256 for run in (settings, whole)]
    assert hashes[0] == hashes[1]
    assert find(f"{settings.out}@last").manifest.state["began_with"] == {"file": "w.pth"}
    with pytest.raises(BundleError, match="weights"):
        train(settings.model_copy(update={"epochs": 2, "weights": None}))
    with pytest.raises(SettingsError, match="cannot be overridden"):
        train(settings.model_copy(update={"epochs": 2, "weights": None}), override=("weights",))


@pytest.mark.parametrize(
    "values",
    [{"pretrained": True, "weights": "w"}, {"pretrained": True, "init_from": "r"}, {"weights": "w", "init_from": "r"}],
)
def test_one_beginning_is_enough(values):
    with pytest.raises(SettingsError, match="left out"):
        validated(values)


def test_pretrained_goes_with_torchvision_s_networks(tmp_path, pictures):
    with pytest.raises(SettingsError, match="no pretrained weights for lenet5"):
        train(settings_for(tmp_path, pictures, network="lenet5", pretrained=True))
    with pytest.raises(NetworkError, match="resnet18"):
        train(settings_for(tmp_path, pictures, network="torchvision:resnet19", pretrained=True))


def test_the_input_of_every_published_network_is_described():
    from cutaway.networks.pretrained import published
    from cutaway.networks.torchvision_models import model_names, takes_one_size, usual_size

    for model in model_names():
        weights = published(model)
        assert weights.preprocessing.resize_to >= weights.preprocessing.size[0]
        assert len(weights.classes) == 1000
        if takes_one_size(model):
            assert weights.preprocessing.size[0] == usual_size(model)
    # torchvision builds these two with `transform_input`, which gives (x - 0.5) / 0.5 of what ImageNet's gives.
    assert published("inception_v3").preprocessing.mean == published("googlenet").preprocessing.std == (0.5, 0.5, 0.5)
    assert published("inception_v3").preprocessing.size == (299, 299)
    assert published("resnet50", "resnet50-0676ba61.pth").name == "ResNet50_Weights.IMAGENET1K_V1"
    assert published("resnet50", "mine.pth").preprocessing.resize_to == 232


def test_the_beginning_is_in_the_journal_s_configuration(tmp_path, pictures, shufflenet):
    torch.save(shufflenet, tmp_path / "w.pth")
    settings = settings_for(tmp_path, pictures, weights=tmp_path / "w.pth")
    train(settings)
    manifest = json.loads((Run(settings.out).bundle_paths()[-1] / "manifest.json").read_text())
    assert manifest["configuration"]["weights"] == str(tmp_path / "w.pth")


def test_of_a_run_that_averages_its_weights_the_average_is_taken(tmp_path, pictures):
    common = {"network": "fashion-cnn-bn", "image_size": 28, "lr": 0.01}
    first = settings_for(tmp_path, pictures, **common, ema_decay=0.9, out=tmp_path / "first")
    train(first)
    average = restore(first.out).network.state_dict()
    raw = read_tensors(find(first.out).path, find(first.out).manifest, "model")
    assert not torch.equal(average["conv1.weight"], raw["conv1.weight"])
    _, tensors, _ = frozen(tmp_path, pictures, **common, init_from=str(first.out))
    assert torch.equal(tensors["conv1.weight"], average["conv1.weight"])
    assert torch.equal(tensors["bn1.running_mean"], average["bn1.running_mean"])
