"""Which device to compute on, from what a person asked for and what is there."""

from __future__ import annotations

import torch

from cutaway.errors import DeviceError


def choose_device(asked: str = "auto") -> torch.device:
    """Turns `auto`, `cpu`, `cuda`, `cuda:1` or `mps` into a device that is there.

    `auto` and `cuda` take the GPU with the most free memory; `auto` falls back to mps, then the CPU.

    Raises:
        DeviceError: What was asked for is not there.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked in ("auto", "cuda") and gpus:
        return torch.device("cuda", max(range(gpus), key=lambda gpu: torch.cuda.mem_get_info(gpu)[0]))
    if asked in ("auto", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    if asked in ("auto", "cpu"):
        return torch.device("cpu")
    kind, _, number = asked.partition(":")
    if kind == "cuda" and number.isascii() and number.isdigit() and int(number) < gpus:
        return torch.device("cuda", int(number))
    there = [f"cuda:{gpu}" for gpu in range(gpus)] + (["mps"] if torch.backends.mps.is_available() else []) + ["cpu"]
    raise DeviceError(f"There is no device '{asked}' here.", hint=f"Devices: {', '.join(there)}, or auto.")
