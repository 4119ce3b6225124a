"""The order of an epoch's samples, a function of the seed and the epoch alone."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def epoch_order(seed: int, epoch: int, samples: int) -> Tensor:
    """A permutation of `range(samples)`, int64 [samples]; the same for any device and number of workers."""
    words = hashlib.sha256(f"order {seed} {epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(words[:8], "big") >> 1)
    return torch.randperm(samples, generator=generator)


def whole_batches(order: Tensor, batch_size: int) -> Tensor:
    """Leaves out the last sample where it would be a batch by itself, over which batch norm has no statistics."""
    alone = batch_size > 1 and len(order) > 1 and len(order) % batch_size == 1
    return order[:-1] if alone else order
