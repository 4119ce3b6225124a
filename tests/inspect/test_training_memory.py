from __future__ import annotations

from functools import partial

import pytest
import torch
import torchvision
from torch import Tensor, nn

from cutaway.errors import NetworkError
from cutaway.inspect.layers import training_memory


def really_kept(network: nn.Module, inputs: Tensor) -> int:
    """Bytes that autograd keeps of a real forward pass, each storage once, without weights and the input."""
    own = [inputs, *network.parameters(), *network.buffers()]
    counted = {tensor.untyped_storage()._cdata for tensor in own}
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in counted:
            counted.add(tensor.untyped_storage()._cdata)
            kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network.train()(inputs)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept)


def test_a_small_network_worked_out_by_hand() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    memory = training_memory(network, (3,), batch_size=5, optimizer=partial(torch.optim.SGD, momentum=0.9))
    weights = 4 * (12 + 4 + 8 + 2)
    assert (memory.weight_bytes, memory.gradient_bytes, memory.optimizer_bytes) == (weights, weights, weights)
    # What ReLU returns serves its own backward pass and the second layer's; the first layer keeps the input.
    assert (memory.saved_bytes, memory.saved_by_layer) == (4 * 5 * 4, (("1", 80),))
    assert memory.input_bytes == 4 * 5 * 3
    assert memory.total_bytes == 3 * weights + 80 + 60
    assert (memory.optimizer, memory.batch_size) == ("SGD", 5)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "vit_b_32", "swin_t"])
def test_what_is_kept_is_what_autograd_keeps(name: str) -> None:
    torch.manual_seed(0)
    network = torchvision.models.get_model(name)
    memory = training_memory(network, (3, 224, 224), batch_size=2)
    assert memory.saved_bytes == really_kept(network, torch.zeros(2, 3, 224, 224))
    assert sum(size for _, size in memory.saved_by_layer) == memory.saved_bytes


OPTIMIZERS = [
    torch.optim.Adam,
    partial(torch.optim.AdamW, amsgrad=True),
    partial(torch.optim.AdamW, fused=True),
    torch.optim.SGD,
    partial(torch.optim.SGD, momentum=0.9, fused=True),
    torch.optim.RMSprop,
    partial(torch.optim.RMSprop, momentum=0.5),
    torch.optim.NAdam,
    torch.optim.Adadelta,
]


@pytest.mark.parametrize("made", OPTIMIZERS)
def test_the_optimizer_s_state_is_what_a_real_step_leaves(made: object) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3))
    network[0].bias.requires_grad_(False)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = made(trained, lr=0.1)
    if getattr(made, "keywords", {}).get("fused") is None:
        assert training_memory(network, (1, 8, 8), optimizer=partial(made, lr=0.1)).optimizer_bytes > -1
    memory = training_memory(network, (1, 8, 8), optimizer=optimizer)
    assert not optimizer.state
    network(torch.zeros(1, 1, 8, 8)).sum().backward()
    optimizer.step()
    tensors = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    assert memory.optimizer_bytes == sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    assert memory.gradient_bytes == sum(4 * parameter.numel() for parameter in trained)


def test_batches_that_no_memory_holds() -> None:
    one, many = (training_memory(nn.Conv2d(3, 8, 3), (3, 64, 64), size).input_bytes for size in (1, 10**6))
    assert many == 10**6 * one


def test_a_network_that_needs_values_and_one_that_cannot_run() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.linear(x).relu()
            return y * 2 if y.sum().item() > 0 else y.sigmoid()

    network = Branching()
    assert training_memory(network, (4,), 3).saved_bytes == really_kept(network, torch.zeros(3, 4)) > 0
    with pytest.raises(NetworkError, match=r"cannot run on an input of shape \[3, 5\]"):
        training_memory(network, (5,), 3)


def test_nothing_changes() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout()).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    random = torch.get_rng_state()
    training_memory(network, (1, 8, 8))
    with pytest.raises(NetworkError):
        training_memory(network, (2, 8, 8))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(
        module.training or module._forward_hooks or module._forward_pre_hooks for module in network.modules()
    )
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(random, torch.get_rng_state())
