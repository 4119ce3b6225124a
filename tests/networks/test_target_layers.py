import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from cutaway.errors import NetworkError
from cutaway.networks import NetworkSpec, build
from cutaway.networks.target_layers import TargetLayer, find_target_layer, spatial_layers, stage_layers

EXPECTED = {
    "alexnet": "features.11",
    "convnext": "features",
    "densenet": "features",
    "efficientnet": "features",
    "googlenet": "inception5b",
    "inception": "Mixed_7c",
    "maxvit": "blocks.3",
    "mnasnet": "layers",
    "mobilenet": "features",
    "regnet": "trunk_output",
    "resnet": "layer4",
    "resnext": "layer4",
    "shufflenet": "conv5",
    "squeezenet": "features",
    "swin": "norm",
    "vgg11": "features.19",
    "vgg11_bn": "features.27",
    "vgg13": "features.23",
    "vgg13_bn": "features.33",
    "vgg16": "features.29",
    "vgg16_bn": "features.42",
    "vgg19": "features.35",
    "vgg19_bn": "features.51",
    "wide": "layer4",
}
LAYOUTS = {"swin": "nhwc", "vit": "tokens"}


def check(name: str, num_classes: int = 10) -> None:
    keywords = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    # RegNet computes its widths with tensors, so it cannot be built without values.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        network = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **keywords)
    side = 299 if name.startswith("inception") else 224
    target = find_target_layer(network, (3, side, side))
    family = name.split("_")[0].rstrip("0123456789")
    assert target.layout == LAYOUTS.get(family, "nchw")
    if family == "vit":
        depth = len(network.encoder.layers)
        patch = network.patch_size
        assert target == TargetLayer(
            f"encoder.layers.encoder_layer_{depth - 1}.ln_1", "tokens", (224 // patch, 224 // patch)
        )
    else:
        assert target == TargetLayer(EXPECTED.get(name) or EXPECTED[family], target.layout)
    # Whoever asks for that layer by name gets the same answer.
    assert find_target_layer(network, (3, side, side), target.name) == target


@pytest.mark.parametrize(
    "name",
    [
        "alexnet",
        "convnext_tiny",
        "densenet121",
        "efficientnet_b0",
        "efficientnet_v2_s",
        "googlenet",
        "inception_v3",
        "maxvit_t",
        "mnasnet0_5",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "regnet_y_400mf",
        "resnet18",
        "resnet50",
        "resnext50_32x4d",
        "shufflenet_v2_x0_5",
        "squeezenet1_1",
        "swin_t",
        "swin_v2_t",
        "vgg11",
        "vgg11_bn",
        "vit_b_32",
        "wide_resnet50_2",
    ],
)
def test_each_family_of_torchvision(name: str) -> None:
    check(name)


@pytest.mark.wide
@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_every_model_of_torchvision(name: str) -> None:
    if name == "regnet_y_128gf":
        pytest.skip("cannot be built without 2.6 GB of weights; its smaller siblings are tested")
    check(name)


def lenet(pool: nn.Module | None = None, *, inplace: bool = False) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(inplace),
        pool or nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(inplace),
        nn.MaxPool2d(2),
        nn.Dropout(0.1),
        nn.Flatten(),
        nn.Linear(400, 10),
    )


@pytest.mark.parametrize("inplace", [False, True])
def test_a_plain_network_is_read_after_its_last_activation_and_before_its_pooling(inplace: bool) -> None:
    assert find_target_layer(lenet(inplace=inplace), (1, 28, 28)) == TargetLayer("4", "nchw")


class Functional(nn.Module):
    """LeNet with operations that no hook sees, as in most tutorials."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.conv2 = nn.Conv2d(6, 12, 5)
        self.fc = nn.Linear(192, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = F.max_pool2d(F.relu(self.conv1(images)), 2)
        images = F.max_pool2d(F.relu(self.conv2(images)), 2)
        return self.fc(images.flatten(1))


def test_functional_operations_leave_the_convolution() -> None:
    assert find_target_layer(Functional(), (1, 28, 28)).name == "conv2"


class OneActivation(Functional):
    """One ReLU module for every layer, whose name therefore means two different maps."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = F.max_pool2d(self.relu(self.conv1(images)), 2)
        return self.fc(F.max_pool2d(self.relu(self.conv2(images)), 2).flatten(1))


def test_a_module_that_is_called_twice_is_no_target() -> None:
    assert find_target_layer(OneActivation(), (1, 28, 28)).name == "conv2"
    with pytest.raises(NetworkError, match=r"called 2 times.*'conv2'"):
        find_target_layer(OneActivation(), (1, 28, 28), "relu")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("lenet5", "relu2"), ("fashion-cnn", "relu2"), ("fashion-cnn-bn", "relu2"), ("resnet-small", "stage3")],
)
def test_our_own_networks(name: str, expected: str) -> None:
    network = build(NetworkSpec(name=name, num_classes=10, input_shape=(1, 28, 28)))
    assert find_target_layer(network, (1, 28, 28)) == TargetLayer(expected, "nchw")


def test_small_pictures_step_back_to_the_last_stage_with_more_than_one_position() -> None:
    with torch.device("meta"):
        resnet = torchvision.models.resnet50(num_classes=10)
        mobile = torchvision.models.mobilenet_v3_small(num_classes=10)
    assert find_target_layer(resnet, (3, 32, 32)).name == "layer3"
    assert find_target_layer(mobile, (3, 32, 32)).name == "features.8"


def test_maps_of_class_scores_are_the_answer_and_no_features() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 10, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    assert find_target_layer(network, (3, 16, 16)).name == "1"
    coincidence = nn.Sequential(
        nn.Conv2d(3, 10, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 10)
    )
    assert find_target_layer(coincidence, (3, 16, 16)).name == "1"


def test_a_transformer_encoder_of_torch_is_read_before_its_last_attention() -> None:
    class Tokens(nn.Module):
        def __init__(self, norm_first: bool) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 32, 8, 8)
            layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=norm_first)
            self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
            self.head = nn.Linear(32, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            tokens = self.patches(images).flatten(2).transpose(1, 2)
            tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
            return self.head(self.encoder(tokens)[:, 0])

    assert find_target_layer(Tokens(False), (3, 32, 64)) == TargetLayer("encoder.layers.1", "tokens", (4, 8))
    assert find_target_layer(Tokens(True), (3, 32, 64)) == TargetLayer("encoder.layers.2.norm1", "tokens", (4, 8))


def test_layouts_become_channels_first_and_drop_the_class_token() -> None:
    tokens = torch.arange(2 * 7 * 5).reshape(2, 7, 5)
    maps = TargetLayer("x", "tokens", (2, 3)).as_maps(tokens)
    assert maps.shape == (2, 5, 2, 3)
    # Position (row 1, column 0) is the third patch, after one class token.
    assert torch.equal(maps[:, :, 1, 0], tokens[:, 1 + 3])
    last = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert torch.equal(TargetLayer("x", "nhwc").as_maps(last)[:, 4, 2, 3], last[:, 2, 3, 4])


def test_a_network_without_maps_is_an_error_in_words() -> None:
    with pytest.raises(NetworkError, match="no layer whose output is a map"):
        find_target_layer(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), (1, 28, 28))
    # What only rescales the picture shows nothing that the network learned.
    with pytest.raises(NetworkError, match="no layer whose output is a map"):
        find_target_layer(nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(784, 10)), (1, 28, 28))


def test_an_unknown_name_lists_near_ones_and_a_flat_one_lists_candidates() -> None:
    with torch.device("meta"):
        network = torchvision.models.resnet18()
    with pytest.raises(NetworkError, match=r"no layer 'layer5'.*'layer4'"):
        find_target_layer(network, (3, 224, 224), "layer5")
    with pytest.raises(NetworkError, match=r"'avgpool' cannot.*'layer4'"):
        find_target_layer(network, (3, 224, 224), "avgpool")
    with pytest.raises(NetworkError, match="cannot run on an input of shape \\[2, 1, 28, 28\\]"):
        find_target_layer(network, (1, 28, 28))


def test_candidates_come_in_the_order_in_which_they_end() -> None:
    assert [layer.name for layer in spatial_layers(lenet(), (1, 28, 28))] == ["0", "1", "3", "4"]


def test_stages_are_the_last_layers_of_each_size() -> None:
    assert [layer.name for layer in stage_layers(lenet(), (1, 28, 28))] == ["1", "4"]
    with torch.device("meta"):
        resnet, vit = torchvision.models.resnet50(), torchvision.models.vit_b_16()
    names = [layer.name for layer in stage_layers(resnet, (3, 224, 224))]
    assert names == ["relu", "layer1", "layer2", "layer3", "layer4"]
    assert [layer.name for layer in stage_layers(vit, (3, 224, 224))] == ["encoder"]


def test_the_network_is_left_as_it_was() -> None:
    network = lenet(nn.Sequential(nn.BatchNorm2d(6), nn.MaxPool2d(2)))
    network[4].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    random = torch.get_rng_state()
    find_target_layer(network, (1, 28, 28))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert modes == [module.training for module in network.modules()]
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.equal(random, torch.get_rng_state())


def test_a_network_that_needs_values_is_run_on_zeros() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.head = nn.Linear(4, 2)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps = self.conv(images)
            return self.head(maps.mean((2, 3)) * (2 if maps.sum().item() > 0 else 1))

    assert find_target_layer(Branching(), (3, 8, 8)).name == "conv"


def test_wrapped_networks_have_the_same_names() -> None:
    network = lenet()
    assert spatial_layers(nn.DataParallel(network), (1, 28, 28)) == spatial_layers(network, (1, 28, 28))
    with pytest.raises(NetworkError, match=r"no layer 'module\.99'.*'4'"):
        find_target_layer(nn.DataParallel(network), (1, 28, 28), "module.99")
