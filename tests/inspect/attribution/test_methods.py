"""What holds for every attribution method."""

import copy
from functools import partial

import pytest
import torch
import torchvision
from torch import nn

from cutaway.errors import InspectionError
from cutaway.inspect.attribution import METHODS, attribute
from cutaway.inspect.attribution.subject import prepared
from cutaway.inspect.features import feature_maps


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


class WritesIntoItsInput(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x.mul_(0.5))


class FailsAt(nn.Module):
    """Raises in its nth call."""

    def __init__(self, inner, at):
        super().__init__()
        self.inner, self.at, self.calls = inner, at, 0

    def forward(self, x):
        self.calls += 1
        if self.calls == self.at:
            raise ZeroDivisionError
        return self.inner(x)


def state_of(network):
    tables = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "modes": [module.training for module in network.modules()],
        "hooks": [len(getattr(module, table)) for module in network.modules() for table in tables],
        "attributes": [sorted(vars(module)) for module in network.modules()],
        "frozen": [parameter.requires_grad for parameter in network.parameters()],
        "gradients": [parameter.grad for parameter in network.parameters()],
        "values": [value.clone() for value in network.state_dict().values()],
        "generator": torch.get_rng_state(),
        "enabled": torch.is_grad_enabled(),
    }


def assert_same(found, before):
    for key, value in before.items():
        if key in ("values", "generator"):
            pairs = zip(value, found[key], strict=True) if key == "values" else [(value, found[key])]
            assert all(torch.equal(one, other) for one, other in pairs), key
        else:
            assert found[key] == value, key


def test_shapes_are_stated_and_the_heat_map_is_the_stated_reduction(method, small, pictures):
    found = attribute(small(), pictures, method, [0, 4, -1, 2])
    assert found.method == method
    assert found.attributions.shape == pictures.shape
    assert found.heatmap.shape == (4, 10, 10)
    assert found.attributions.any()
    assert not found.attributions.requires_grad
    assert torch.allclose(found.logits, small()(pictures), atol=1e-6)
    assert found.class_index.tolist() == [0, 4, int(found.logits[2].argmax()), 2]
    reduce = {"sum": lambda a: a.sum(1), "largest-magnitude": lambda a: a.abs().max(1).values}[found.reduction]
    assert torch.equal(found.heatmap, reduce(found.attributions))
    assert (found.baseline is not None) == METHODS[method].takes_baseline
    assert found.probabilities.tolist() == pytest.approx(found.logits.softmax(1)[range(4), found.class_index].tolist())


def test_it_is_the_same_in_every_circumstance(method, small, pictures):
    wanted = attribute(small(), pictures, method, 1).attributions
    frozen = small("shared in-place").requires_grad_(False)
    with torch.no_grad():
        assert torch.allclose(attribute(frozen, pictures, method, 1).attributions, wanted, atol=2e-5)
        assert not torch.is_grad_enabled()
    training = small().train()
    training.pool.eval()
    assert torch.allclose(attribute(training, pictures, method, 1).attributions, wanted, atol=2e-5)
    last = small().to(memory_format=torch.channels_last)
    assert torch.allclose(
        attribute(last, pictures.contiguous(memory_format=torch.channels_last), method, 1).attributions,
        wanted,
        atol=2e-5,
    )
    spread = torch.stack([pictures, pictures], -1)[..., 0]
    assert not spread.is_contiguous()
    assert torch.allclose(attribute(small(), spread, method, 1).attributions, wanted, atol=2e-5)
    with torch.inference_mode():
        inference = pictures.clone()
    assert torch.allclose(attribute(small(), inference, method, 1).attributions, wanted, atol=2e-5)


def test_each_picture_is_explained_on_its_own_and_few_at_a_time(method, small, pictures):
    wanted = attribute(small(), pictures, method, [0, 4, 2, 2]).attributions
    again = attribute(small(), pictures, method, [0, 4, 2, 2], at_a_time=1).attributions
    assert torch.allclose(again, wanted, atol=2e-5)
    alone = attribute(small(), pictures[:1], method, 0).attributions
    assert torch.allclose(alone, wanted[:1], atol=2e-5)


def test_no_more_pictures_go_through_the_network_together_than_allowed(method, small, pictures):
    network, seen = small(), []
    network.first.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    attribute(network, pictures, method, 1, at_a_time=2)
    assert max(seen) <= 2 if method not in ("occlusion", "feature-ablation") else max(seen) <= 3


def test_a_network_that_writes_into_its_input_is_explained(method, small, pictures):
    before = pictures.clone()
    found = attribute(WritesIntoItsInput(small()), pictures, method, 1)
    assert torch.equal(pictures, before)
    assert found.attributions.any()


def test_randomness_follows_from_the_seed(method, small, pictures):
    one, same, other = (attribute(small(), pictures, method, 1, seed=seed).attributions for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert torch.equal(one, other) != METHODS[method].takes_seed


def test_the_network_is_left_as_it_was(method, small, pictures):
    network = small("in-place").train()
    network.pool.eval()
    network.second.weight.requires_grad_(False)
    network.first.weight.grad = torch.ones_like(network.first.weight)
    before = state_of(network)
    attribute(network, pictures, method)
    assert_same(state_of(network), before)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_the_network_is_left_as_it_was_after_it_raised_in_the_middle(method, at, small, pictures):
    network = FailsAt(small().train(), at)
    before = state_of(network)
    try:
        attribute(network, pictures, method, target_layer="inner.second") if "cam" in method else attribute(
            network, pictures, method
        )
    except ZeroDivisionError:
        pass
    else:
        assert network.calls < at
    assert_same(state_of(network), before)


def test_a_compiled_network_is_explained_as_its_original(method, small, pictures):
    def backend(graph, examples):
        raise AssertionError("it must not be compiled")

    network = copy.deepcopy(small())
    compiled = torch.compile(network, backend=backend)
    wanted = attribute(small(), pictures, method, 1).attributions
    assert torch.allclose(attribute(compiled, pictures, method, 1).attributions, wanted, atol=2e-5)


def test_a_wrapped_network_is_explained(method, small, pictures):
    wanted = attribute(small(), pictures, method, 1).attributions
    wrapped = nn.DataParallel(small())
    assert torch.allclose(attribute(wrapped, pictures, method, 1).attributions, wanted, atol=2e-5)


def test_weights_are_frozen_meanwhile_so_that_no_gradient_is_kept_for_them(method, small, pictures):
    network, seen = small(), []
    network.hidden.register_forward_hook(lambda module, args, output: seen.append(module.weight.requires_grad))
    attribute(network, pictures, method, 1)
    assert not any(seen)
    assert network.hidden.weight.requires_grad


def test_what_parallel_wrappers_would_run_in_threads_runs_in_this_one(small, pictures):
    # Other threads know nothing of a function mode of this one.
    inner = small()
    with prepared(nn.DataParallel(inner), pictures, purpose="A test") as subject:
        assert subject.network is inner


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v3_small", "efficientnet_b0", "regnet_y_400mf"])
def test_deep_lift_is_complete_on_convolutional_networks_of_torchvision(name):
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, num_classes=5).double()
    inputs = torch.randn(2, 3, 64, 64).double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(8, 3, 64, 64).double())  # statistics under which something comes out
    found = attribute(network, inputs, "deep-lift", [0, 3], baseline="blur")
    assert (found.difference.abs() > 1e-5).all()
    assert (found.gap.abs() < 1e-3 * found.difference.abs()).all()


def test_a_diverged_network_is_told_and_gives_no_blank_map(method, small, pictures):
    network = small()
    with torch.no_grad():
        network.last.bias[0] = float("nan")
    with pytest.raises(InspectionError, match="logits are not finite"):
        attribute(network, pictures, method, 1)


def test_an_infinite_logit_is_told_where_it_is_to_be_explained(method, small, pictures):
    network = small()
    with torch.no_grad():
        network.last.bias[0] = -float("inf")
    assert attribute(network, pictures, method, 1).attributions.isfinite().all()
    with pytest.raises(InspectionError, match="logits are not finite"):
        attribute(network, pictures, method, 0)


@pytest.mark.parametrize("method", ["saliency", "smooth-grad", "integrated-gradients", "deep-lift"])
def test_gradients_that_are_not_finite_are_told(method, pictures):
    class Rooted(nn.Module):
        def forward(self, x):
            return torch.stack([x.sum((1, 2, 3)), (0 * x).abs().sqrt().sum((1, 2, 3))], 1)

    with pytest.raises(InspectionError, match=r"gradients .* are not finite"):
        attribute(Rooted(), pictures, method, 1)


def test_an_array_in_place_of_a_tensor_is_told(small, pictures):
    for look in (partial(attribute, method="saliency"), feature_maps):
        with pytest.raises(InspectionError, match=r"not a ndarray\. Make one of an array"):
            look(small, pictures.numpy())


def test_an_unknown_method_is_told_with_the_known_ones(small, pictures):
    with pytest.raises(InspectionError, match="Known are saliency, input-x-gradient"):
        attribute(small(), pictures, "magic")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_same(method, small, pictures):
    wanted = attribute(small(), pictures, method, 1, seed=3).attributions
    found = attribute(small().cuda(), pictures, method, 1, seed=3).attributions
    assert found.is_cuda
    if not METHODS[method].takes_seed:
        assert torch.allclose(found.cpu(), wanted, atol=1e-3)
