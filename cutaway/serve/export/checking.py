"""Whether a network is a classifier that can be exported at all, and what to say where it is not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from cutaway.errors import ExportError
from cutaway.hooks import layers_over_batches
from cutaway.preprocessing.spec import Pixels, Preprocessing


def check_classifier(network: nn.Module, preprocessing: Preprocessing, classes: Sequence[str]) -> None:
    """Runs the network on two blank pictures, and on one.

    Args:
        network: In evaluation mode.
        preprocessing: Says the shape of its input.
        classes: Label names in output order.

    Raises:
        ExportError: It has one class alone, normalises over batches, is not on the CPU, does not run, or does not
            return logits [N, K] for K classes.
    """
    if len(classes) < 2:
        raise ExportError(
            "With one class alone the softmax gives every picture a probability of 1.",
            hint="A network that says yes or no by one score needs two: let it return "
            "torch.cat((0 * score, score), 1), and name two classes.",
        )
    mixing = layers_over_batches(network)
    if mixing:
        raise ExportError(
            f"{mixing[0]!r} normalises by the batch's own statistics in evaluation mode too, so the file would answer "
            "to a picture by what stands beside it.",
            hint="Make its batch norms with track_running_stats=True, and train it.",
        )
    wrong = sorted({t.device.type for t in (*network.parameters(), *network.buffers())} - {"cpu"})
    if wrong:
        raise ExportError(f"The network is on {', '.join(wrong)}.", hint="Export it from the CPU: network.cpu().")
    for count in (2, 1):
        _check_logits(network, count, preprocessing, len(classes))


def _check_logits(network: nn.Module, count: int, preprocessing: Preprocessing, num_classes: int) -> None:
    """Runs the network on so many blank pictures."""
    shape = [count, *preprocessing.input_shape]
    with torch.no_grad():
        try:
            output = network(torch.zeros(shape))
        except Exception as error:
            which = f"inputs of shape {shape}" if count > 1 else "one picture, only on several"
            raise ExportError(
                f"The network does not run on {which}: {first_line(error).rstrip('.')}.",
                hint="" if count > 1 else "Its forward pass uses a number where it should use x.shape[0].",
            ) from error
    if not isinstance(output, Tensor):
        raise ExportError(
            f"The network returns a {type(output).__name__}, not a tensor of logits.",
            hint="Wrap it in a module that returns the logits alone.",
        )
    if tuple(output.shape) != (count, num_classes):
        raise ExportError(
            f"For {count} picture{'s' if count > 1 else ''} and {num_classes} classes the network must return logits "
            f"[{count}, {num_classes}], and it returns {list(output.shape)}.",
            hint="" if count > 1 else "Look for squeeze(), which takes a batch of one away too; flatten(1) does not.",
        )


def check_pictures(pictures: Sequence[Pixels]) -> None:
    """Refuses what is no decoded picture, and one without a pixel, on which a file and its network always agree.

    Raises:
        ExportError: One is not uint8 [H, W, 1 or 3] with at least one pixel.
    """
    for number, picture in enumerate(pictures):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] not in (1, 3) or not picture.size:
            raise ExportError(
                f"Picture {number} to verify with is {picture.dtype} {list(picture.shape)}, and pictures are uint8 "
                "[H, W, 1 or 3].",
                hint="cutaway.images.decode gives them so.",
            )


def first_line(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
