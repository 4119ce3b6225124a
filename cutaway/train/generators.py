"""Random generators as tensors, so that a resumed run draws what the uninterrupted one would have drawn."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.errors import BundleError


def seed_generators(seed: int) -> None:
    """Seeds Python's, numpy's and torch's global generators, on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """The states of the generators that training on `device` may draw from."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    if version != 3 or kind != "MT19937":
        raise RuntimeError(f"unknown generators: Python's version {version}, numpy's {kind}")
    states = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(words, dtype=torch.int64),
        "python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
        "numpy_rest": torch.tensor([position, has_gauss, cached], dtype=torch.float64),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_generators(states: dict[str, Tensor], device: torch.device) -> None:
    """Puts back what `generator_states` took. A bundle from another kind of device leaves this one's generator alone.

    Raises:
        BundleError: The states are not ones that the generators accept.
    """
    try:
        torch.set_rng_state(states["torch"])
        gauss = states["python_gauss"].tolist()
        random.setstate((3, tuple(states["python"].tolist()), gauss[0] if gauss else None))
        position, has_gauss, cached = states["numpy_rest"].tolist()
        keys = states["numpy"].numpy().astype(np.uint32)
        np.random.set_state(("MT19937", keys, int(position), int(has_gauss), cached))
        if device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], device)
    except (KeyError, ValueError, TypeError, RuntimeError, IndexError) as error:
        raise BundleError(f"The bundle's random states cannot be restored: {error}.") from error


@contextmanager
def deterministic(device: torch.device, threads: int = 0) -> Iterator[None]:
    """Makes torch choose algorithms that give the same bits each time, and puts everything back afterwards.

    Args:
        device: Where it computes.
        threads: On the CPU, whose number decides how sums are split; 0 leaves it as it is.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    algorithms = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    memory: Any = torch.utils.deterministic  # a module with properties, which no type checker knows
    filled = memory.fill_uninitialized_memory
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Some kernels of GPUs have no deterministic form; torch then warns and names them, and training goes on.
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
    torch.backends.cudnn.benchmark = False
    # Filling each new tensor first would cost a tenth of the speed, and only helps what reads before it writes.
    memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        memory.fill_uninitialized_memory = filled
