"""Random numbers that are a function of (seed, epoch, key) alone, computed for a whole batch at once.

A generator gives the next number, so what a sample gets depends on which samples came before. Here each number is the
hash of where it is needed: the same in any batch, process and order, and after a resume. The hash is the finaliser of
SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_32_BITS = 0xFFFFFFFF


@dataclass(frozen=True)
class Draws:
    """The random numbers that one augmentation has for the samples of a batch.

    Attributes:
        keys: uint64 [B], one for each sample.
    """

    keys: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.keys)

    def uniform(self, slot: int) -> npt.NDArray[np.float64]:
        """A number in [0, 1) for each sample: float64 [B], the same one each time.

        Args:
            slot: Which of a sample's numbers, from 0 on; what draws more than once counts them.
        """
        offset = np.array([slot + 1], dtype=np.uint64) * _GOLDEN
        numbers: npt.NDArray[np.float64] = (_mixed(self.keys + offset) >> np.uint64(11)).astype(np.float64)
        return numbers * 2.0**-53

    def between(self, low: float, high: float, slot: int) -> npt.NDArray[np.float64]:
        """Numbers in [low, high): float64 [B]."""
        return low + (high - low) * self.uniform(slot)

    def happens(self, probability: float, slot: int) -> npt.NDArray[np.bool_]:
        """True with a probability: bool [B]."""
        return self.uniform(slot) < probability

    def below(self, limit: npt.NDArray[np.int64] | int, slot: int) -> npt.NDArray[np.int64]:
        """Whole numbers from 0 to `limit` - 1: int64 [B]."""
        return np.floor(self.uniform(slot) * limit).astype(np.int64)

    def pixels(self, height: int, width: int, device: torch.device) -> Tensor:
        """Numbers in [0, 1) for each pixel: float32 [B, height, width], computed on the device.

        In integers of 32 bits, each product below 2**63, so every device computes the same.
        """
        keys = torch.from_numpy((self.keys >> np.uint64(32)).astype(np.int64)).to(device)
        positions = torch.arange(height * width, device=device) * 0x1E3779B1 & _32_BITS
        mixed = keys[:, None] ^ positions[None]
        for factor in (0x21F0AAAD, 0x735A2D97):
            mixed ^= mixed >> 16
            mixed *= factor
            mixed &= _32_BITS
        mixed ^= mixed >> 15
        # The highest 24 bits, which a float32 holds exactly.
        return ((mixed >> 8).to(torch.float32) * 2.0**-24).reshape(-1, height, width)


def draws_for(purpose: str, seed: int, epoch: int, keys: npt.NDArray[np.int64]) -> Draws:
    """The draws of some samples in an epoch.

    Args:
        purpose: What they are for; other purposes have other draws.
        seed: Of the run.
        epoch: Whole epochs before this one.
        keys: int64 [B], one for each time that a sample comes in the epoch; see `draw_keys`.
    """
    words = hashlib.sha256(f"{purpose} {seed} {epoch}".encode()).digest()
    base = np.uint64(int.from_bytes(words[:8], "big"))
    return Draws(_mixed(base + (keys.astype(np.uint64) + np.uint64(1)) * _GOLDEN))


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spreads every bit over all: uint64 -> uint64, overflowing as unsigned integers do."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
