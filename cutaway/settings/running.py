"""How long a run is, where it runs and what seeds it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from cutaway.settings.group import SettingsGroup


class RunningSettings(SettingsGroup):
    """Length, place and seed of a run."""

    title: ClassVar[str] = "run"

    out: Path = Path("runs/latest")
    """The run's directory. Where it holds a run already, that run goes on."""
    epochs: int = Field(default=10, ge=1, le=100_000)
    """Passes over the training split."""
    batch_size: int = Field(default=128, ge=1, le=1_000_000)
    """Pictures per step."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of the split, the initial weights, the order of pictures, and dropout."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    threads: int = Field(default=0, ge=0, le=1024)
    """CPU threads of torch; 0 leaves it the number of cores. Another number rounds differently in the last bits."""
    channels_last: bool = True
    """Keep tensors in the channels-last memory format, which convolutions run faster in."""

    @field_validator("device")
    @classmethod
    def _is_a_device(cls, device: str) -> str:
        kind, _, number = device.partition(":")
        if kind not in ("auto", "cpu", "cuda", "mps") or (":" in device and not (kind == "cuda" and number.isdigit())):
            raise ValueError("must be auto, cpu, cuda, cuda:NUMBER or mps")
        return device


FREE_TO_CHANGE = frozenset({"out", "device", "threads"})
