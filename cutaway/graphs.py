"""A network's graph for TensorBoard."""

from __future__ import annotations

import copy
import io
import warnings
from contextlib import redirect_stdout

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter


def add_graph(writer: SummaryWriter, network: nn.Module, inputs: Tensor) -> str:
    """Traces a copy of a network on the CPU in evaluation mode, and writes its graph.

    Args:
        writer: Of event files.
        network: Any module.
        inputs: float [N, C, h, w], of which the first is traced.

    Returns:
        A sentence where the network cannot be traced; otherwise nothing.
    """
    # torch prints what it is about to raise.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            writer.add_graph(copy.deepcopy(network).cpu().eval(), inputs[:1].cpu())
        except Exception as error:  # noqa: BLE001 - tracing runs a network's own code on what it may not expect
            why = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            return f"TensorBoard shows no graph of this network, which cannot be traced: {why.strip()[:200]}"
    return ""
