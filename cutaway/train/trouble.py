"""What torch says when a step fails, in words that tell what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cutaway.errors import CutawayError, DeviceError, NetworkError
from cutaway.settings import TrainSettings

# The CPU's and Apple's allocators have no exception of their own.
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|Invalid buffer size", re.IGNORECASE)
_TWO_DEVICES = re.compile(
    r"on the same device|not on the expected device|Input type \(.*\) and weight type \(.*\) should be the same"
)


@contextmanager
def in_words(settings: TrainSettings) -> Iterator[None]:
    """Turns what torch raises where memory runs out or a tensor is in the wrong place into a sentence and a hint.

    Raises:
        DeviceError: The device has too little memory for a batch.
        NetworkError: A tensor of the network is on another device than the rest.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or _NO_MEMORY.search(str(error)):
            raise _out_of_memory(settings) from error
        if _TWO_DEVICES.search(str(error)):
            raise NetworkError(
                f"A tensor of the network is on another device than the pictures: {_first_line(error)}",
                hint="Keep tensors of a module in parameters or by register_buffer, which move with it; and make those "
                "of its forward on the device of its input.",
            ) from error
        raise


def _out_of_memory(settings: TrainSettings) -> CutawayError:
    size, accumulate = settings.batch_size, settings.accumulate
    said = f"The device has too little memory for batches of {size} pictures."
    if size < 4:
        return DeviceError(said, hint="Give a smaller --image-size or --network, or --device cpu.")
    # The same number of pictures a step, or nearly so where it is odd: the recipe stays what it was.
    half, doubled = size // 2, accumulate * 2
    hint = f"Give --batch-size {half} --accumulate {doubled}: the same step in parts that fit."
    return DeviceError(said, hint=f"{hint} For a run that has bundles already, add --override batch_size accumulate.")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
