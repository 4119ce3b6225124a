"""The network's forward pass through `torch.compile`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from cutaway.errors import CutawayError


def compiled(network: nn.Module) -> Callable[[Tensor], Any]:
    """A function that computes what the network does, in kernels made for it. The network itself stays as it is.

    Each size of batch has kernels of its own, whatever sizes came before: a resumed run computes the same bits.

    Raises:
        CutawayError: From the function: torch cannot compile this network here.
    """
    forward = torch.compile(network, dynamic=False)

    def run(inputs: Tensor) -> Any:
        try:
            return forward(inputs)
        except TorchDynamoException as error:
            why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise CutawayError(
                f"torch.compile cannot compile this network here: {why[:300]}.",
                hint="Leave --compile out. On the CPU it needs a C++ compiler.",
            ) from error

    return run
