"""Which pictures the ranges of activations are measured on, and what the network's layers are fed for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from onnx import ModelProto

from cutaway.datasets.split import Split
from cutaway.errors import ExportError
from cutaway.preprocessing.spec import Pixels
from cutaway.serve.export.forms.seam import Tensors, watch
from cutaway.serve.metadata import Metadata
from cutaway.serve.own_graph import network_input

_BATCH = 16


def calibration_pictures(training: Split, count: int) -> list[Pixels]:
    """Pictures of the training split, always the same: spread evenly over it in the order of their classes.

    Args:
        training: The split.
        count: How many; all, where there are fewer.

    Raises:
        ExportError: There are none.
    """
    if not len(training) or count < 1:
        raise ExportError("int8 needs pictures of the training split to calibrate it on, and there are none.")
    by_class = np.argsort(training.labels, kind="stable")
    places = np.linspace(0, len(training) - 1, min(count, len(training))).round().astype(int)
    return [training.image(int(by_class[place])) for place in places]


def calibration_batches(
    model: ModelProto, metadata: Metadata, forward: ModelProto, pictures: Sequence[Pixels]
) -> Iterator[Tensors]:
    """What goes into the forward pass for the pictures, as the file itself computes it from them.

    Args:
        model: Of the exported file.
        metadata: Of the same file.
        forward: Its forward pass.
        pictures: uint8 [H, W, 1 or 3] each, of any size.
    """
    values = watch(model, [value.name for value in forward.graph.input])
    for start in range(0, len(pictures), _BATCH):
        seen = [metadata.preprocessing.picture(picture) for picture in pictures[start : start + _BATCH]]
        yield values(network_input(seen, metadata))
