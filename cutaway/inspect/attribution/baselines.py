"""What stands for "nothing" in a picture: the value that a pixel has when it is taken away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cutaway.errors import InspectionError
from cutaway.preprocessing import Preprocessing

BaselineKind = Literal["mean", "black", "white", "blur"]


@dataclass(frozen=True)
class Baseline:
    """Pictures with nothing in them, one for each of a batch.

    Attributes:
        name: In words.
        values: float [N, C, H, W], preprocessed.
    """

    name: str
    values: Tensor


def make_baseline(
    inputs: Tensor, kind: BaselineKind | Tensor | Baseline = "mean", preprocessing: Preprocessing | None = None
) -> Baseline:
    """Makes the baselines of pictures.

    Args:
        inputs: float [N, C, H, W], preprocessed.
        kind: `mean` is the mean colour of the training pictures, which is 0 after normalisation; `black` and `white`
            are pixels of 0 and 255; `blur` is the picture itself without its details, by a Gaussian of an eighth of
            its longer side. Or a tensor that broadcasts to the inputs' shape.
        preprocessing: Of the pictures, for `black` and `white`.

    Raises:
        InspectionError: It doesn't fit the pictures, or black and white are not known without the preprocessing.
    """
    if isinstance(kind, Baseline):
        return Baseline(kind.name, _expanded(kind.values, inputs))
    if isinstance(kind, Tensor):
        return Baseline("given", _expanded(kind, inputs))
    match kind:
        case "mean":
            return Baseline("the training pictures' mean", torch.zeros_like(inputs))
        case "blur":
            return Baseline("the picture blurred", blurred(inputs))
        case "black" | "white":
            if preprocessing is None:
                raise InspectionError(
                    f"What {kind} is after normalisation is not known here.",
                    hint="Give the preprocessing, or a tensor of that colour.",
                )
            level = 0.0 if kind == "black" else 1.0
            mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
            return Baseline(kind, _expanded(((level - mean) / std).reshape(1, -1, 1, 1), inputs))
        case _:
            raise InspectionError(f"There is no baseline '{kind}'.", hint="Known are mean, black, white and blur.")


def blurred(inputs: Tensor, sigma: float | None = None) -> Tensor:
    """Pictures under a Gaussian of `sigma` pixels, an eighth of the longer side by default: [N, C, H, W] of both."""
    sigma = max(inputs.shape[2:]) / 8 if sigma is None else sigma
    for dimension in (2, 3):
        length = inputs.shape[dimension]
        reach = min(max(1, round(3 * sigma)), length - 1)
        if reach == 0:
            continue
        steps = torch.arange(-reach, reach + 1, dtype=inputs.dtype, device=inputs.device)
        weights = torch.exp(-(steps**2) / (2 * sigma**2))
        weights = (weights / weights.sum()).expand(inputs.shape[1], 1, -1)
        margin = (reach, reach, 0, 0) if dimension == 3 else (0, 0, reach, reach)
        padded = F.pad(inputs, margin, mode="reflect")
        shape = (1, -1) if dimension == 3 else (-1, 1)
        inputs = F.conv2d(padded, weights.reshape(inputs.shape[1], 1, *shape), groups=inputs.shape[1])
    return inputs


def _expanded(values: Tensor, inputs: Tensor) -> Tensor:
    try:
        return values.detach().to(inputs).expand(inputs.shape).clone()
    except RuntimeError as error:
        raise InspectionError(f"A baseline {list(values.shape)} does not fit pictures {list(inputs.shape)}.") from error
