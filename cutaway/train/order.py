"""The order of an epoch's samples, a function of the seed, the epoch and, where classes are balanced, the labels."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def epoch_order(seed: int, epoch: int, samples: int) -> Tensor:
    """A permutation of `range(samples)`, int64 [samples]; the same for any device and number of workers."""
    return torch.randperm(samples, generator=_generator("order", seed, epoch))


def balanced_order(seed: int, epoch: int, labels: Tensor) -> Tensor:
    """As many samples as there are, every class equally often, as far as that divides.

    Within a class no sample comes a second time before each has come once: of a large class the epoch sees a part,
    another in each epoch; of a small one it sees every sample several times.

    Args:
        seed: Of the run.
        epoch: Whole epochs before this one.
        labels: int64 [N].

    Returns:
        int64 [N], indices into `labels`.
    """
    generator = _generator("balanced order", seed, epoch)
    counts = labels.bincount()
    members = [some for some in torch.split(labels.argsort(stable=True), counts.tolist()) if len(some)]
    share, rest = divmod(len(labels), len(members))
    wanted = torch.full((len(members),), share)
    wanted[torch.randperm(len(members), generator=generator)[:rest]] += 1
    drawn = []
    for some, number in zip(members, wanted.tolist(), strict=True):
        rounds = range(-(-number // len(some)))
        drawn.append(torch.cat([some[torch.randperm(len(some), generator=generator)] for _ in rounds])[:number])
    order = torch.cat(drawn)
    return order[torch.randperm(len(order), generator=generator)]


def whole_batches(order: Tensor, batch_size: int) -> Tensor:
    """Leaves out the last sample where it would be a batch by itself, over which batch norm has no statistics."""
    alone = batch_size > 1 and len(order) > 1 and len(order) % batch_size == 1
    return order[:-1] if alone else order


def draw_keys(order: Tensor, samples: int) -> Tensor:
    """What each sample of an epoch draws its random numbers by: another key each time that one comes.

    The first time it is the sample's own index, and then that and as many whole splits as it came before.

    Args:
        order: int64 [M], of the whole epoch.
        samples: Of the split, above every index.

    Returns:
        int64 [M], no two alike.
    """
    by_sample = order.argsort(stable=True)
    counts = order.bincount(minlength=samples)
    first = (counts.cumsum(0) - counts)[order[by_sample]]
    before = torch.empty_like(order)
    before[by_sample] = torch.arange(len(order)) - first
    return order + samples * before


def _generator(purpose: str, seed: int, epoch: int) -> torch.Generator:
    words = hashlib.sha256(f"{purpose} {seed} {epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(words[:8], "big") >> 1)
