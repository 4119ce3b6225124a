from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torchvision
from captum.attr import LayerGradCam
from torch import Tensor, nn

from cutaway import heatmaps
from cutaway.errors import InspectionError, NetworkError
from cutaway.inspect.class_activation import ClassActivation, class_activation_maps, grad_cam
from cutaway.networks.target_layers import TargetLayer, find_target_layer


def by_hand(inplace: bool = False, head: tuple[tuple[float, ...], ...] = ((1.0, -1.0), (0.0, 2.0))) -> nn.Sequential:
    """Two maps, x and -x, a ReLU, the mean of each, and a linear head."""
    network = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(inplace), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2, False)
    )
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))
        network[4].weight.copy_(torch.tensor(head))
    return network


PICTURE = torch.tensor([[[[4.0, -8.0], [0.0, 12.0]]]])


@pytest.mark.parametrize("inplace", [False, True])
def test_maps_worked_out_by_hand(inplace: bool) -> None:
    # After the ReLU: A0 = [4 0; 0 12], A1 = [0 8; 0 0], means 4 and 2, logits 4 - 2 = 2 and 2 * 2 = 4.
    # Each position weighs a quarter: class 0 has weights 1/4 and -1/4, class 1 has 0 and 1/2.
    activation = grad_cam(by_hand(inplace), PICTURE.repeat(3, 1, 1, 1), class_index=[0, 1, -1])
    assert activation.target_layer.name == "1"
    assert activation.logits.tolist() == [[2.0, 4.0]] * 3
    assert activation.class_index.tolist() == [0, 1, 1]
    assert activation.maps.tolist() == [[[1, 0], [0, 3]], [[0, 4], [0, 0]], [[0, 4], [0, 0]]]
    assert activation.has_evidence.tolist() == [True] * 3


@pytest.mark.parametrize("inplace", [False, True])
def test_a_layer_before_a_relu_shows_its_own_output(inplace: bool) -> None:
    # At the convolution A0 = [4 -8; 0 12] and A1 = -A0. The gradient of class 0 passes the ReLU at two of A0's
    # positions and one of A1's: weights 2/16 and -1/16. Map: ReLU((2 + 1) / 16 * [4 -8; 0 12]).
    activation = grad_cam(by_hand(inplace), PICTURE, "0", class_index=0)
    assert activation.maps.tolist() == [[[0.75, 0], [0, 2.25]]]


def test_no_evidence_is_named_and_not_stretched() -> None:
    activation = grad_cam(by_hand(head=((-1.0, -1.0), (0.0, 2.0))), PICTURE.repeat(2, 1, 1, 1), class_index=[0, 1])
    assert activation.has_evidence.tolist() == [False, True]
    assert activation.maps[0].tolist() == [[0, 0], [0, 0]]


def small_cnn(inplace: bool) -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3),
        nn.BatchNorm2d(12),
        nn.ReLU(inplace),
        nn.MaxPool2d(2),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(12 * 6 * 6, 5),
    )


def test_every_layer_agrees_with_captum_with_in_place_operations_or_without() -> None:
    torch.manual_seed(1)
    inputs = torch.randn(4, 3, 30, 30)
    classes = torch.tensor([0, 4, 2, 2])
    reference, twin = small_cnn(False).eval(), small_cnn(True).eval()
    for index in (0, 1, 2, 4, 5, 6):
        expected = LayerGradCam(reference, reference[index]).attribute(inputs, classes, relu_attributions=True)
        for network in (reference, twin):
            found = grad_cam(network, inputs, str(index), classes)
            assert torch.allclose(found.maps, expected[:, 0], atol=1e-6)
        assert torch.allclose(found.logits, reference(inputs))


@pytest.mark.parametrize("name", ["resnet18", "swin_t", "vit_b_32", "densenet121"])
@pytest.mark.slow
def test_networks_of_torchvision_agree_with_captum(name: str) -> None:
    torch.manual_seed(2)
    network = torchvision.models.get_model(name, num_classes=7).eval()
    for parameter in network.parameters():
        # torchvision starts ViT's head at zero, which would make every map empty.
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    inputs = torch.randn(2, 3, 224, 224)
    target = find_target_layer(network, (3, 224, 224))
    captum = LayerGradCam(network, network.get_submodule(target.name))
    found = grad_cam(network, inputs, target, [3, 6])
    if target.layout == "nchw":
        expected = captum.attribute(inputs, [3, 6], relu_attributions=True)[:, 0]
    else:
        # captum has no word for layouts: hand it the same layer seen as maps.
        kept: list[Tensor] = []
        handle = network.get_submodule(target.name).register_forward_hook(lambda m, a, o: kept.append(o))
        logits = network(inputs)
        handle.remove()
        (gradient,) = torch.autograd.grad(logits[0, 3] + logits[1, 6], kept[0])
        maps, weights = target.as_maps(kept[0]), target.as_maps(gradient).mean((2, 3), keepdim=True)
        expected = (weights * maps).sum(1).relu()
    assert found.has_evidence.any()
    assert torch.allclose(found.maps, expected, atol=1e-5 * expected.max().item() + 1e-8)


def test_each_sample_is_explained_on_its_own() -> None:
    torch.manual_seed(1)
    inputs = torch.randn(3, 3, 30, 30)
    network = small_cnn(False)
    together = grad_cam(network, inputs, class_index=[1, 2, -1])
    for index, chosen in enumerate([1, 2, -1]):
        alone = grad_cam(network, inputs[index : index + 1], class_index=chosen)
        assert torch.allclose(alone.maps[0], together.maps[index], atol=1e-6)
        assert alone.probabilities[0] == pytest.approx(
            float(together.logits[index].softmax(0)[together.class_index[index]]), abs=1e-6
        )


def test_the_network_is_left_as_it_was_also_by_a_failure() -> None:
    network = small_cnn(True)
    network[8].eval()
    network[4].weight.requires_grad_(False)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    grad_cam(network, torch.randn(2, 3, 30, 30))
    with pytest.raises(InspectionError):
        grad_cam(network, torch.randn(2, 3, 30, 30), class_index=9)
    assert modes == [module.training for module in network.modules()]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not network[4].weight.requires_grad
    assert not any(module._forward_hooks for module in network.modules())
    assert torch.is_grad_enabled()


def test_it_works_inside_no_grad_and_with_frozen_weights() -> None:
    network = small_cnn(False)
    inputs = torch.randn(2, 3, 30, 30)
    expected = grad_cam(network, inputs).maps
    network.requires_grad_(False)
    with torch.no_grad():
        assert torch.equal(grad_cam(network, inputs).maps, expected)
        assert not torch.is_grad_enabled()


def test_no_graph_is_built_below_the_target_layer() -> None:
    network = small_cnn(False)
    seen: list[bool] = []
    network[4].register_forward_hook(lambda module, args, output: seen.append(output.requires_grad))
    network[9].register_forward_hook(lambda module, args, output: seen.append(output.requires_grad))
    target = find_target_layer(network, (3, 30, 30))
    seen.clear()
    grad_cam(network, torch.randn(1, 3, 30, 30), target)
    assert seen == [False, True]
    seen.clear()
    class_activation_maps(network, torch.randn(1, 3, 30, 30), target_layer=target, smooth=True)
    assert len(seen) > 4
    assert seen == [False, True] * (len(seen) // 2)


def test_what_cannot_work_is_an_error_in_words() -> None:
    network = small_cnn(False)
    inputs = torch.randn(2, 3, 30, 30)
    with torch.inference_mode(), pytest.raises(InspectionError, match="inference_mode"):
        grad_cam(network, inputs)
    with pytest.raises(InspectionError, match="no class 5"):
        grad_cam(network, inputs, class_index=[1, 5])
    with pytest.raises(InspectionError, match="no class -2"):
        grad_cam(network, inputs, class_index=-2)
    with pytest.raises(InspectionError, match="each of the 2 pictures"):
        grad_cam(network, inputs, class_index=[1])
    with pytest.raises(InspectionError, match="as floats"):
        grad_cam(network, inputs[0])
    with pytest.raises(InspectionError, match="as floats"):
        grad_cam(network, inputs.byte())
    with pytest.raises(NetworkError, match="no layer 'features'"):
        grad_cam(network, inputs, "features")
    with pytest.raises(InspectionError, match=r"logits \[N, K\]"):
        grad_cam(nn.Sequential(nn.Conv2d(3, 4, 3)), inputs, "0")
    cut = nn.Sequential(nn.Conv2d(3, 4, 3), Detached(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(InspectionError, match="do not depend on layer '0'"):
        grad_cam(cut, inputs, "0")


class Detached(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.detach()


def test_pictures_made_under_inference_mode_are_explained_all_the_same() -> None:
    with torch.inference_mode():
        inputs = torch.randn(2, 3, 30, 30)
    assert grad_cam(small_cnn(True), inputs).maps.shape == (2, 12, 12)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same_maps_and_keeps_its_random_state() -> None:
    network, inputs = small_cnn(True), torch.randn(2, 3, 30, 30)
    expected = grad_cam(network, inputs, class_index=[1, 2])
    network.cuda()
    before = torch.cuda.get_rng_state()
    found = grad_cam(network, inputs, class_index=[1, 2])
    assert found.maps.is_cuda
    assert torch.allclose(found.maps.cpu(), expected.maps, atol=1e-4)
    assert torch.equal(torch.cuda.get_rng_state(), before)


@pytest.mark.parametrize("method", ["grad-cam", "score-cam", "ablation-cam", "eigen-cam"])
def test_maps_that_are_not_finite_are_told_and_not_taken_for_no_evidence(method: str) -> None:
    network = by_hand()
    nn.init.constant_(network[4].weight, float("nan"))
    with pytest.raises(InspectionError, match="not finite"):
        class_activation_maps(network, PICTURE, method)
    with pytest.raises(InspectionError, match="not finite"):
        class_activation_maps(by_hand(), PICTURE * float("nan"), method)


def test_a_large_map_of_small_values_holds_evidence() -> None:
    # Logits of about 0.002 spread over 250,000 positions: 1e-8 at each of them.
    network = by_hand(head=((0.001, 0.0), (-0.001, 0.0)))
    found = grad_cam(network, torch.rand(1, 1, 500, 500).repeat(2, 1, 1, 1), class_index=[0, 1])
    assert found.maps.max() < heatmaps.NEARLY_ZERO
    assert found.maps[0].sum() == pytest.approx(float(found.logits[0, 0]), rel=1e-3)
    assert found.has_evidence.tolist() == [True, False]
    assert heatmaps.normalise(found.maps[0].numpy()).max() == 1
    assert not heatmaps.normalise(found.maps[1].numpy()).any()


def test_noise_beside_large_logits_is_no_evidence() -> None:
    maps = torch.tensor([[[1e-5, 0]], [[1e-1, 0]]])[:, None].repeat(1, 2, 1, 1)
    logits = torch.tensor([[1000.0, -torch.inf]] * 2)
    found = ClassActivation(maps, logits, torch.zeros(2, 2, dtype=torch.int64), (TargetLayer("1", "nchw"),))
    assert found.has_evidence.tolist() == [[False, False], [True, True]]


@pytest.mark.parametrize(
    "method", ["grad-cam", "hirescam", "grad-cam++", "xgrad-cam", "cam", "score-cam", "ablation-cam", "eigen-cam"]
)
def test_under_autocast_maps_are_summed_in_single_precision(method: str) -> None:
    network = by_hand()
    expected = class_activation_maps(network, PICTURE, method, class_index=0).maps
    with torch.autocast("cpu", torch.bfloat16):
        found = class_activation_maps(network, PICTURE, method, class_index=0).maps
    assert found.dtype == torch.float32
    assert torch.allclose(found, expected, atol=0.02 * expected.max().item())


def test_pictures_take_the_type_of_the_weights() -> None:
    expected = grad_cam(by_hand(), PICTURE)
    found = grad_cam(by_hand().double(), PICTURE)
    assert found.maps.dtype == torch.float64
    assert torch.allclose(found.maps.float(), expected.maps)
    assert torch.equal(grad_cam(by_hand(), PICTURE.double()).maps, expected.maps)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torchscript_is_refused_in_words() -> None:
    with pytest.raises(InspectionError, match="cannot look into TorchScript, which the network is"):
        grad_cam(torch.jit.script(by_hand()), PICTURE, "1")
    partly = nn.Sequential(*by_hand()[:1], torch.jit.trace(nn.ReLU(), PICTURE), *by_hand()[2:])
    with pytest.raises(InspectionError, match="which 1 is"):
        grad_cam(partly, PICTURE, "0")


def test_threads_take_turns_with_one_network() -> None:
    network = torchvision.models.resnet18(num_classes=5)
    pictures = torch.randn(8, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = [grad_cam(network, picture).maps for picture in pictures]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda picture: grad_cam(network, picture).maps, pictures))
    assert all(map(torch.equal, found, expected))
    assert network.training


def test_an_array_in_place_of_a_tensor_is_told() -> None:
    with pytest.raises(InspectionError, match=r"not a ndarray\. Make one of an array"):
        grad_cam(by_hand(), PICTURE.numpy())
