"""What learns in which epoch, by name and by what a training moves."""

import pytest
import torch
from torch import nn

from cutaway.checkpoints import Run, find, read_tensors
from cutaway.networks import NetworkSpec, build, build_on_meta, names, usual_image_size
from cutaway.networks.heads import find_parts
from cutaway.train import TrainSettings, train
from cutaway.train.fine_tuning import freeze
from cutaway.train.fine_tuning.freezing import num_frozen
from cutaway.train.recipe_notes import recipe_notes


def described(name, classes=7):
    side = usual_image_size(name) or 28
    return NetworkSpec(name=name, num_classes=classes, input_shape=(3, side, side))


@pytest.mark.parametrize("name", names())
def test_of_every_network_nothing_but_the_head_learns_while_frozen(name):
    spec = described(name)
    network = build_on_meta(spec).train()
    parts = find_parts(network, spec.input_shape, 7)
    freeze(network, parts, TrainSettings(freeze_backbone=1), 0)
    shapes = {key: tensor.shape for key, tensor in build_on_meta(described(name, 8)).named_parameters()}
    learning = {key for key, parameter in network.named_parameters() if parameter.requires_grad}
    assert learning == {key for key, parameter in network.named_parameters() if parameter.shape != shapes[key]}
    norms = [module for module in network.modules() if hasattr(module, "running_mean")]
    assert not any(module.training for module in norms)
    assert network.training
    network.train()
    freeze(network, parts, TrainSettings(freeze_backbone=1), 1)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(module.training for module in norms)


@pytest.mark.parametrize(
    ("settings", "frozen"),
    [
        ({}, [0, 0, 0, 0, 0, 0, 0]),
        ({"freeze_backbone": 2}, [4, 4, 0, 0, 0, 0, 0]),
        ({"unfreeze": "gradual"}, [3, 2, 1, 0, 0, 0, 0]),
        ({"freeze_backbone": 2, "unfreeze": "gradual"}, [4, 4, 3, 2, 1, 0, 0]),
    ],
)
def test_so_many_stages_are_frozen_in_each_epoch(settings, frozen):
    assert [num_frozen(TrainSettings(**settings), epoch, 4) for epoch in range(7)] == frozen


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"freeze_backbone": 3, "epochs": 1}, "The backbone does not learn in the run's only epoch, since --freeze-ba"),
        ({"freeze_backbone": 3, "epochs": 3}, "The backbone does not learn in any of the run's 3 epochs"),
        ({"freeze_backbone": 3, "epochs": 4}, ""),
        ({"unfreeze": "gradual", "epochs": 2}, "The first 2 stages of the backbone's 4 do not learn in any of"),
        ({"unfreeze": "gradual", "epochs": 3}, "The first stage of the backbone's 4 does not learn in any of"),
        ({"unfreeze": "gradual", "epochs": 4}, ""),
        ({"layer_decay": 0.5, "epochs": 1}, ""),
    ],
)
def test_what_is_frozen_to_the_end_is_told_at_the_beginning(settings, said):
    notes = recipe_notes(TrainSettings(**settings), 100, 4)
    assert [note[: len(said)] for note in notes] == ([said] if said else [])


def test_gradually_a_resnet_thaws_from_the_head_down():
    network = build(described("torchvision:resnet18")).train()
    parts = find_parts(network, (3, 64, 64), 7)
    settings = TrainSettings(freeze_backbone=1, unfreeze="gradual")
    seen = []
    for epoch in range(7):
        network.train()
        freeze(network, parts, settings, epoch)
        seen.append(
            "".join(
                str(int(all(parameter.requires_grad for parameter in module.parameters())))
                for module in (
                    network.conv1,
                    network.layer1,
                    network.layer2,
                    network.layer3,
                    network.layer4,
                    network.fc,
                )
            )
        )
        # A norm's statistics follow the batches exactly where its scale learns.
        for module in network.modules():
            if hasattr(module, "running_mean"):
                assert module.training == module.weight.requires_grad
    assert seen == ["000001", "000011", "000111", "001111", "011111", "111111", "111111"]


def settings_for(tmp_path, pictures, **changes):
    base = {"data": f"folder:{pictures}", "image_size": 28, "batch_size": 16, "lr": 0.01, "out": tmp_path / "run"}
    return TrainSettings(**base | {"network": "fashion-cnn-bn", "epochs": 2, "keep_last": 9} | changes)


def weights_after_epochs(settings):
    stored = [bundle for bundle in Run(settings.out).bundles() if bundle.manifest.phase == "validated"]
    return [read_tensors(bundle.path, bundle.manifest, "model") for bundle in stored]


def test_frozen_weights_and_statistics_stay_where_they_are_under_decay_and_momentum(tmp_path, pictures):
    begun = settings_for(tmp_path, pictures, epochs=1, out=tmp_path / "first")
    train(begun)
    (first,) = weights_after_epochs(begun)
    changes = {"init_from": str(begun.out), "freeze_backbone": 1, "weight_decay": 0.5, "optimizer": "sgd"}
    settings = settings_for(tmp_path, pictures, **changes)
    train(settings)
    frozen, thawed = weights_after_epochs(settings)
    head = {"out.weight", "out.bias"}
    assert {name for name in first if not torch.equal(first[name], frozen[name])} == head
    assert {name for name in first if not torch.equal(frozen[name], thawed[name])} == set(first)


def test_a_frozen_part_has_no_optimizer_state_yet(tmp_path, pictures):
    settings, notes = settings_for(tmp_path, pictures, freeze_backbone=1), []
    train(settings, on_note=notes.append)
    assert not any("backbone" in note for note in notes)
    stored = [bundle for bundle in Run(settings.out).bundles() if bundle.manifest.phase == "validated"]
    states = [read_tensors(bundle.path, bundle.manifest, "optimizer") for bundle in stored]
    assert {name.rpartition("/")[0] for name in states[0]} == {"out.weight", "out.bias"}
    assert {name.rpartition("/")[0] for name in states[1]} > {"out.weight", "conv1.weight", "bn1.bias"}


def test_the_backbone_learns_at_its_own_rate(tmp_path, pictures):
    """With plain sgd a step is the rate times the gradient, which is the same at the first step."""
    moved = {}
    for scale in (1.0, 0.25):
        changes = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "epochs": 1, "save_every": 1}
        settings = settings_for(
            tmp_path, pictures, **changes, warmup_steps=0, backbone_lr_scale=scale, out=tmp_path / f"{scale}"
        )
        train(settings)
        first = find(f"{settings.out}@1").manifest
        assert first.progress.step == 1
        moved[scale] = read_tensors(find(f"{settings.out}@1").path, first, "model")
    torch.manual_seed(0)
    begun = build(find(f"{settings.out}@1").manifest.network).state_dict()
    for name in ("conv1.weight", "fc2.bias", "bn1.weight"):
        whole, quarter = moved[1.0][name] - begun[name], moved[0.25][name] - begun[name]
        assert whole.abs().max() > 0
        torch.testing.assert_close(quarter, whole / 4, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(moved[1.0]["out.weight"], moved[0.25]["out.weight"])


class Own(nn.Module):
    """A person's own: layers in a list, a norm, a tensor beside them, and the head under a name of its own."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))
        self.layers = nn.ModuleList([nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, 2)])
        self.scores = nn.Linear(4, 3)

    def forward(self, x):
        x = x + self.shift
        for layer in self.layers:
            x = layer(x).relu()
        return self.scores(x.mean((2, 3)))


def test_a_network_of_one_s_own_is_frozen_too(tmp_path, pictures):
    network = Own()
    begun = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    settings = settings_for(tmp_path, pictures, freeze_backbone=1, epochs=1)
    train(settings, network=network)
    (after,) = weights_after_epochs(settings)
    assert {name for name in begun if not torch.equal(begun[name], after[name])} == {"scores.weight", "scores.bias"}


@pytest.mark.parametrize("changes", [{"backbone_lr_scale": 0.1}, {"freeze_backbone": 1, "epochs": 2}])
def test_what_one_s_own_network_has_frozen_stays_frozen(tmp_path, pictures, changes):
    network = Own()
    network.layers.requires_grad_(False)
    begun = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    settings = settings_for(tmp_path, pictures, **{"epochs": 1} | changes)
    train(settings, network=network)
    after = weights_after_epochs(settings)[-1]
    moved = {name for name in begun if not torch.equal(begun[name], after[name])}
    assert moved == {"shift", "scores.weight", "scores.bias"}
