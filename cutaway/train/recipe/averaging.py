"""An exponential moving average of the weights, which is often more accurate than the weights themselves."""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor, nn

from cutaway.errors import BundleError


class Average:
    """A copy of a network whose weights and buffers follow the network's own.

    After each step `a = d * a + (1 - d) * w`, with `d` the smaller of `decay` and (1 + steps) / (10 + steps), so that
    the random weights of the beginning are soon forgotten. Batch norm's statistics are averaged like weights; what is
    no floating-point number, such as its count of batches, is copied.

    Args:
        network: What is followed; it stays as it is.
        decay: How long the average remembers: about 1 / (1 - decay) steps.

    Attributes:
        network: The averaged network, in evaluation mode and without gradients.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay
        pairs = list(zip(_tensors(self.network), _tensors(network), strict=True))
        self._averages = [average for average, own in pairs if own.is_floating_point()]
        self._followed = [own for _, own in pairs if own.is_floating_point()]
        self._copied = [(average, own) for average, own in pairs if not own.is_floating_point()]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Takes in the network's weights after `steps` steps."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(self._averages, self._followed, 1 - decay)
        for average, own in self._copied:
            average.copy_(own)

    def tensors(self) -> dict[str, Tensor]:
        """The averaged weights and buffers, by the names that they have in the network."""
        return dict(self.network.state_dict())

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Takes what `tensors` gave.

        Raises:
            BundleError: They are not those of this network.
        """
        own = self.network.state_dict()
        if own.keys() != tensors.keys() or any(own[name].shape != tensors[name].shape for name in own):
            raise BundleError("The bundle's averaged weights are not those of its network.")
        own.update(tensors)
        self.network.load_state_dict(own)


def _tensors(network: nn.Module) -> list[Tensor]:
    return list(itertools.chain(network.parameters(), network.buffers()))
