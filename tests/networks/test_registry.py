"""Networks by name: shapes, counts worked out by hand, and what is refused."""

import pytest
import torch
from torchvision.models import get_weight, list_models

from cutaway.errors import NetworkError
from cutaway.networks import NetworkSpec, build, build_on_meta, names


def spec(name, shape=(1, 28, 28), classes=10, **arguments):
    return NetworkSpec(name=name, num_classes=classes, input_shape=shape, arguments=arguments)


# Worked out by hand: for lenet5, 6*(25+1) + 16*(6*25+1) + 120*(400+1) + 84*(120+1) + 10*(84+1).
COUNTS = {
    "linear": 10 * (784 + 1),
    "alexnet-small": (32 * 10 + 64 * (32 * 9 + 1) + 96 * (64 * 9 + 1) + 64 * (96 * 9 + 1) + 64 * (64 * 9 + 1))
    + 256 * (64 * 16 + 1)
    + 128 * 257
    + 10 * 129,
    "mlp": 128 * (784 + 1) + 10 * (128 + 1),
    "lenet5": 6 * 26 + 16 * 151 + 120 * 401 + 84 * 121 + 10 * 85,
    "fashion-cnn": 6 * 26 + 12 * 151 + 120 * 193 + 60 * 121 + 10 * 61,
    "fashion-cnn-bn": 6 * 26 + 12 * 151 + 120 * 193 + 60 * 121 + 10 * 61 + 2 * 6 + 2 * 120,
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_counted_by_hand(name):
    network = build(spec(name))
    assert sum(parameter.numel() for parameter in network.parameters()) == COUNTS[name]
    assert network(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_torchvision_networks_have_torchvision_s_parameters_and_our_head():
    weights = get_weight("ResNet18_Weights.IMAGENET1K_V1")
    network = build(spec("torchvision:resnet18", (3, 224, 224), 1000))
    assert sum(p.numel() for p in network.parameters()) == weights.meta["num_params"]
    assert build(spec("torchvision:resnet18", (3, 64, 64), 7))(torch.rand(2, 3, 64, 64)).shape == (2, 7)


def test_a_grey_picture_gets_a_grey_stem():
    network = build(spec("torchvision:mobilenet_v3_small", (1, 64, 64)))
    assert network.eval()(torch.rand(1, 1, 64, 64)).shape == (1, 10)


@pytest.mark.parametrize("name", [name for name in names() if name.startswith("torchvision:")])
def test_every_torchvision_network_builds_on_meta_with_our_classes(name):
    from cutaway.networks import usual_image_size
    from cutaway.networks.registry import _check_runs

    size = usual_image_size(name)
    description = spec(name, (3, size, size), 3)
    network = build_on_meta(description)
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    _check_runs(network, description)
    output = network(torch.empty(2, 3, size, size, device="meta"))
    assert output.shape == (2, 3)


def test_the_list_is_torchvision_s():
    from torchvision import models

    assert {name.removeprefix("torchvision:") for name in names() if ":" in name} == set(list_models(module=models))


def test_a_build_on_meta_has_the_same_state_as_a_real_one():
    for description in (spec("resnet-small"), spec("torchvision:regnet_y_400mf", (3, 64, 64))):
        real = build(description).state_dict()
        shadow = build_on_meta(description).state_dict()
        assert {k: (v.shape, v.dtype) for k, v in real.items()} == {k: (v.shape, v.dtype) for k, v in shadow.items()}


@pytest.mark.parametrize(
    ("description", "said"),
    [
        (spec("resnet19"), "no network named"),
        (spec("torchvision:resnet19"), "resnet18"),
        (spec("torchvision:resnet18", weights="DEFAULT"), "weights"),
        (spec("resnet-small", width=0), "1 to 1024"),
        (spec("resnet-small", width=True), "number"),
        (spec("resnet-small", width="big"), "number"),
        (spec("lenet5", (1, 8, 8)), "at least 12x12"),
        (spec("fashion-cnn", (1, 15, 28)), "at least 16x16"),
        (spec("torchvision:alexnet"), "--image-size 224"),
        (spec("torchvision:vit_b_16", (3, 64, 64)), "exactly 224x224"),
    ],
)
def test_what_cannot_be_built_is_said_in_a_sentence(description, said):
    with pytest.raises(NetworkError) as error:
        build(description)
    assert said in str(error.value)


def test_the_smallest_picture_that_is_named_works():
    assert build(spec("lenet5", (1, 12, 12)))(torch.rand(1, 1, 12, 12)).shape == (1, 10)
    assert build(spec("fashion-cnn", (1, 16, 16)))(torch.rand(1, 1, 16, 16)).shape == (1, 10)
