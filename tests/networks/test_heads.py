"""Where the head ends and the backbone begins, for every network that there is."""

import pytest
import torch
from torch import nn

from cutaway.errors import NetworkError
from cutaway.networks import NetworkSpec, build, build_on_meta, names, usual_image_size
from cutaway.networks.heads import find_parts


def described(name, classes, **arguments):
    side = usual_image_size(name) or 28
    return NetworkSpec(name=name, num_classes=classes, input_shape=(3, side, side), arguments=arguments)


def that_depend_on_the_classes(name, **arguments):
    """The oracle: what has another shape where there is one class more."""
    shapes = [
        {key: tensor.shape for key, tensor in build_on_meta(described(name, classes, **arguments)).named_parameters()}
        for classes in (7, 8)
    ]
    return {key for key in shapes[0] if shapes[0][key] != shapes[1][key]}


@pytest.mark.parametrize("name", names())
def test_the_head_of_every_network_is_what_depends_on_the_classes(name):
    network = build_on_meta(described(name, 7))
    parts = find_parts(network, described(name, 7).input_shape, 7)
    head = {key for key, _ in network.named_parameters() if parts.stage_of(key) is None}
    assert head == that_depend_on_the_classes(name)
    used = {parts.stage_of(key) for key, _ in network.named_parameters()} - {None}
    assert used == set(range(len(parts.stages)))


def stages(name):
    spec = described(name, 7)
    return find_parts(build_on_meta(spec), spec.input_shape, 7).stages


def test_stages_are_those_of_the_papers():
    assert stages("torchvision:resnet18") == (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))
    blocks = [(f"encoder.layers.encoder_layer_{number}",) for number in range(11)]
    last = ("encoder.layers.encoder_layer_11", "encoder.ln")
    assert stages("torchvision:vit_b_16") == (("conv_proj",), *blocks, last)
    assert stages("fashion-cnn-bn") == (("conv1", "bn1"), ("conv2",), ("fc1", "bn2"), ("fc2",))
    assert stages("resnet-small") == (("stem",), ("stage1",), ("stage2",), ("stage3",))
    assert stages("mlp") == (("fc1",),)
    # Five convolutions, then the two linear layers before the head.
    assert [stage[0].partition(".")[0] for stage in stages("torchvision:alexnet")] == ["features"] * 5 + [
        "classifier"
    ] * 2


def test_what_is_no_part_s_own_belongs_to_the_first_stage():
    spec = described("torchvision:vit_b_16", 7)
    parts = find_parts(build_on_meta(spec), spec.input_shape, 7)
    assert parts.stage_of("class_token") == parts.stage_of("encoder.pos_embedding") == 0
    assert parts.stage_of("encoder.ln.weight") == len(parts.stages) - 1


class Scaled(nn.Module):
    """A person's own: the head in front of a scale, a tensor of its own, and the layers in a list."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))
        self.layers = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)])
        self.scores = nn.Linear(4, 5)
        self.scale = nn.BatchNorm1d(5)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x + self.shift).relu()
        return self.scale(self.scores(x.mean((2, 3))))


def test_a_person_s_own_network_has_parts_too():
    network = Scaled().eval()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    parts = find_parts(network, (3, 12, 12), 5)
    assert (parts.head, parts.stages) == (("scores", "scale"), (("layers.0",), ("layers.1",)))
    assert parts.stage_of("shift") == 0
    assert not network.training
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())


def test_a_network_that_is_its_head():
    parts = find_parts(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2), 5)
    assert (parts.head, parts.stages, parts.stage_of("1.weight")) == (("1",), (), None)


def test_a_head_that_gives_another_number_of_scores_is_refused():
    with pytest.raises(NetworkError, match="'scores'"):
        find_parts(Scaled(), (3, 12, 12), 6)


def test_built_networks_are_told_apart_as_those_on_meta_are():
    spec = described("resnet-small", 7)
    assert find_parts(build(spec), spec.input_shape, 7) == find_parts(build_on_meta(spec), spec.input_shape, 7)
