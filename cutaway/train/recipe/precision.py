"""Half precision where it is safe: autocast, and for float16 a scaler that keeps small gradients from vanishing."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from cutaway.errors import BundleError, SettingsError
from cutaway.settings import TrainSettings

_REMEMBERED_AS = "scaler"
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class _ScalerState(BaseModel):
    """What torch's scaler keeps, which it takes back unseen: rubbish would only fail in the middle of a step."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    scale: float = Field(ge=0, allow_inf_nan=False)
    growth_factor: float = Field(gt=1, allow_inf_nan=False)
    backoff_factor: float = Field(gt=0, lt=1)
    growth_interval: int = Field(gt=0, lt=2**31)
    growth_tracker: int = Field(ge=0, lt=2**31, alias="_growth_tracker")


def autocast(settings: TrainSettings, device: torch.device) -> AbstractContextManager[Any]:
    """A context in which torch chooses for each operation whether half precision is exact enough."""
    if settings.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_TYPES[settings.precision])


def make_scaler(settings: TrainSettings, device: torch.device) -> torch.amp.GradScaler | None:
    """The scaler for float16; None where gradients need none.

    Raises:
        SettingsError: The device has no scaler.
    """
    if settings.precision != "fp16":
        return None
    if device.type not in ("cpu", "cuda"):
        raise SettingsError(f"On {device.type} there is no training with fp16.", hint="Give --precision bf16 or fp32.")
    return torch.amp.GradScaler(device.type)


def remember_scaler(scaler: torch.amp.GradScaler | None, remembered: dict[str, JsonValue]) -> None:
    """Puts the scaler's state into what a session remembers; waits for the device."""
    if scaler is not None:
        remembered[_REMEMBERED_AS] = scaler.state_dict()


def recall_scaler(scaler: torch.amp.GradScaler | None, remembered: dict[str, JsonValue]) -> None:
    """Puts back what `remember_scaler` put in, if it did.

    Raises:
        BundleError: It is no scaler's state.
    """
    state = remembered.get(_REMEMBERED_AS)
    if scaler is None or state is None:
        return
    try:
        known = _ScalerState.model_validate(state)
    except ValidationError as error:
        raise BundleError("What the bundle remembers of the gradient scaler cannot be read.") from error
    scaler.load_state_dict(known.model_dump(by_alias=True))
