"""Every kind of head: one network of each torchvision family with its default target layer, on a photo."""

import copy

import numpy as np
import onnxruntime as ort
import pytest
import torch
from skimage import data
from torch import Tensor, nn
from torchvision import models
from torchvision.models.vision_transformer import VisionTransformer

from cutaway.inspect.class_activation import ClassActivation, grad_cam
from cutaway.preprocessing import Preprocessing
from cutaway.serve.export import export_module


def alexnet_small() -> nn.Module:
    """AlexNet's kind of head, an adaptive pooling that pools nothing and linear layers, without its 57 million."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 7, stride=4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d((6, 6)),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(864, 32),
        nn.ReLU(inplace=True),
        nn.Linear(32, 10),
    )


def vgg_small() -> nn.Module:
    """vgg11 with 64 units in the hidden layers of its head in place of 4096."""
    network = models.vgg11(num_classes=10)
    network.classifier[0] = nn.Linear(512 * 7 * 7, 64)
    network.classifier[3] = nn.Linear(64, 64)
    network.classifier[6] = nn.Linear(64, 10)
    return network


def vit_small() -> nn.Module:
    return VisionTransformer(
        image_size=64, patch_size=16, num_layers=3, num_heads=4, hidden_dim=64, mlp_dim=128, num_classes=10
    )


def maxvit_small() -> nn.Module:
    """Windows of 4 over maps of 16 and 8: both of its attentions, over windows and over the grid, have neighbours."""
    return models.MaxVit(
        input_size=(64, 64),
        stem_channels=16,
        partition_size=4,
        block_channels=[16, 32],
        block_layers=[1, 1],
        head_dim=8,
        stochastic_depth_prob=0.0,
        num_classes=10,
    )


def swin_small() -> nn.Module:
    """Two stages, each with windows and shifted windows: 16x16 and 8x8 positions, neither a multiple of the 7."""
    return models.SwinTransformer(
        patch_size=[4, 4], embed_dim=32, depths=[2, 2], num_heads=[2, 4], window_size=[7, 7], num_classes=10
    )


# Smaller ones of their families where the whole takes half a minute or more: the same operators, fewer times over.
SMALL = {
    "alexnet-small": alexnet_small,
    "vgg-small": vgg_small,
    "vit-small": vit_small,
    "swin-small": swin_small,
    "maxvit-small": maxvit_small,
}
FAST = ["alexnet-small"]
SLOW = [
    "resnet18",
    "vgg-small",
    "vit-small",
    "swin-small",
    "maxvit-small",
    "convnext_tiny",
]
LARGEST = 100e6
PARAMETERS = {
    name: models.get_model_weights(name).DEFAULT.meta["num_params"] for name in models.list_models(module=models)
}


def wide() -> list[str]:
    """Every other network of torchvision up to 100 million parameters, and of each larger family the smallest."""
    larger: dict[str, list[str]] = {}
    for name in sorted(PARAMETERS, key=PARAMETERS.__getitem__):
        if PARAMETERS[name] > LARGEST:
            larger.setdefault(models.get_model_builder(name).__module__, []).append(name)
    small_enough = [name for name, count in PARAMETERS.items() if count <= LARGEST and name not in (*FAST, *SLOW)]
    return small_enough + [names[0] for names in larger.values()]


WIDE = wide()
ALL = [
    *FAST,
    *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW),
    *(pytest.param(name, marks=[pytest.mark.wide, pytest.mark.timeout(1800)]) for name in WIDE),
]
# What needs more than 64 pixels: for its strides, for windows of 7 in each stage, for more than four patches.
# At 64 pixels efficientnet_b5's random weights leave 4e-5 or 7e-4 of a probability open in PyTorch's own float32, by
# the number of threads; at 96 it is 7e-6. efficientnet_v2_l's logits for a photo are 0.5 to 4 at 64 pixels, and 18,000
# where it is only stretched; at 128 no stretched one has more than 2.
SIZES = {"inception_v3": 160, "maxvit_t": 224, "vit_b_32": 128, "efficientnet_b5": 96, "efficientnet_v2_l": 128}


def made(name: str, size: int) -> nn.Module:
    if name in SMALL:
        return SMALL[name]()
    if name.startswith("vit_"):
        return models.get_model(name, num_classes=10, image_size=size)
    if name.startswith("maxvit_"):
        return models.get_model(name, num_classes=10, input_size=(size, size))
    return models.get_model(name, num_classes=10)


PHOTOS = [data.chelsea(), data.coffee(), data.astronaut(), data.rocket()]
# BatchNorm's statistics are those of four times as many pictures. With those of the four alone, efficientnet_b4's
# logits are 9e3, and 3e4 where a photo is only stretched: there PyTorch's float32 and float64 don't agree on the class.
VIEWS = [view for each in (np.s_[:], np.s_[::-1], np.s_[:, ::-1], np.s_[::2]) for view in (p[each] for p in PHOTOS)]


def test_wide_leaves_no_network_and_no_family_out():
    taken = {*FAST, *SLOW, *WIDE}
    assert [name for name, count in PARAMETERS.items() if count <= LARGEST and name not in taken] == []
    families = {models.get_model_builder(name).__module__ for name in PARAMETERS}
    assert {models.get_model_builder(name).__module__ for name in taken - SMALL.keys()} == families
    assert len(WIDE) > 50


@pytest.mark.parametrize("name", ALL)
@pytest.mark.filterwarnings("ignore:The default weight initialization:FutureWarning")
def test_the_file_explains_itself_as_pytorch_does(name, tmp_path):
    torch.manual_seed(0)
    size = SIZES.get(name, 64)
    network = made(name, size)
    spec = Preprocessing(
        size=(size, size), resize="shorter", resize_to=size + 8, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    views = torch.from_numpy(spec.normalise(np.stack([spec.picture(np.ascontiguousarray(view)) for view in VIEWS])))
    inputs = views[: len(PHOTOS)]
    _give_it_answers(network, views)

    result = export_module(network, spec, list("abcdefghij"), tmp_path / "x.onnx", images=PHOTOS, explain=True)

    session = ort.InferenceSession(result.path)
    explained = _classes_with_a_map(network, inputs, result.metadata.target_layer)
    answers = [
        session.run(["logits", "heatmap"], {"images": photo[None], "class_index": np.array([index])})
        for photo, index in zip(PHOTOS, explained, strict=True)
    ]
    logits, maps = (torch.from_numpy(np.concatenate(each)).double() for each in zip(*answers, strict=True))

    exact, logits_error, maps_error = _exactly(network, inputs, result.metadata.target_layer, explained)
    largest = exact.maps.amax((1, 2))
    assert ((logits - exact.logits).abs().amax(1) <= 3 * logits_error + 1e-5).all()
    assert ((maps - exact.maps).abs().amax((1, 2)) <= 3 * maps_error + 1e-5 * largest).all()
    # Enough of them are there, and far from rounding.
    assert ((largest > 0) & (maps_error < 1e-3 * largest)).sum() >= 3
    assert result.figures.heatmap_share == 1


def _classes_with_a_map(network: nn.Module, inputs: Tensor, target_layer: str) -> list[int]:
    """In the first photo the top class, in each other the one of the strongest map: random weights leave many empty."""
    largest = [grad_cam(network, inputs, target_layer, index).maps.amax((1, 2)) for index in range(10)]
    return [-1, *torch.stack(largest).argmax(0)[1:].tolist()]


def _exactly(
    network: nn.Module, inputs: Tensor, target_layer: str, explained: list[int]
) -> tuple[ClassActivation, Tensor, Tensor]:
    """Logits and maps in float64, and how far float32 determines them: an error of each picture's logits and map [N].

    An error of random weights differs by network and by picture: mnasnet0_5, whose BatchNorms were given statistics
    of 16 positions, multiplies the rounding of its input by a thousand, and where in addition the terms of a map
    nearly cancel (of the second photo's 1e-3 are left beside 0.9 of the first's), float32 leaves 3 % of it open: the
    file, PyTorch on the batch, PyTorch on one picture and float64 on inputs rounded otherwise all differ by as much.
    So what a float32 engine is held to is the largest error of PyTorch's own float32, taken in both ways, and of a
    rounding of the inputs.
    """
    copy64 = copy.deepcopy(network).double()
    exact = grad_cam(copy64, inputs.double(), target_layer, explained)
    alone = [grad_cam(network, one[None], target_layer, [index]) for one, index in zip(inputs, explained, strict=True)]
    noise = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rounded = inputs.double() * (1 + torch.finfo(torch.float32).eps * noise)
    others = [
        grad_cam(network, inputs, target_layer, explained),
        grad_cam(copy64, rounded, target_layer, explained),
    ]
    logits = [torch.cat([each.logits for each in alone]), *(each.logits for each in others)]
    maps = [torch.cat([each.maps for each in alone]), *(each.maps for each in others)]
    logits_error = torch.stack([(each - exact.logits).abs().amax(1) for each in logits]).amax(0)
    maps_error = torch.stack([(each - exact.maps).abs().amax((1, 2)) for each in maps]).amax(0)
    return exact, logits_error, maps_error


def _give_it_answers(network: nn.Module, inputs: torch.Tensor) -> None:
    """Random weights alone leave BatchNorm's statistics far off and some heads at zero: no map would be seen."""
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train().momentum = None
        if isinstance(module, nn.Linear) and module.out_features == 10:
            nn.init.normal_(module.weight, std=0.1)
    with torch.no_grad():
        network(inputs)
    network.eval()
