"""How the graph of another tool's file is fed and read: a plain classifier of float pictures, whatever its names.

Such a file says neither what its numbers stand for nor how pictures become its input; the person says both. Whatever
can be checked against the file is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from cutaway.errors import ServingError
from cutaway.preprocessing.spec import Pixels, Preprocessing
from cutaway.serve.metadata import UNVERIFIED, Metadata
from cutaway.serve.onnx_file import Node, nodes
from cutaway.serve.own_graph import Answers
from cutaway.serve.sessions import Session, run

__all__ = ["ForeignGraph", "Scores", "described"]

Scores = Literal["auto", "logits", "probabilities"]
Layout = Literal["NCHW", "NHWC"]

_FLOATS: dict[str, type[np.floating[Any]]] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_PASSING_ON = {"Identity", "Cast", "Reshape", "Flatten", "Squeeze"}
_SUM_TOLERANCE = 2e-3  # of probabilities in half precision


@dataclass(frozen=True)
class _Picture:
    """How the file takes pictures.

    Attributes:
        name: Of its input.
        kind: numpy's type of it.
        layout: NCHW or NHWC.
        batch: Pictures in one run, where the file fixes it.
    """

    name: str
    kind: type[np.floating[Any]]
    layout: Layout
    batch: int | None


class _Sides(NamedTuple):
    """What a layout would make of the input's shape: a number, or the name of an open dimension."""

    channels: int | str | None
    height: int | str | None
    width: int | str | None


def described(name: str, classes: Sequence[str], preprocessing: Preprocessing) -> Metadata:
    """The metadata of a file that has none: what the person says, and that nobody compared it with anything."""
    if not classes:
        raise ServingError("No classes are named.", hint="Name them in the order of the network's outputs.")
    return Metadata(
        input="float", classes=tuple(classes), preprocessing=preprocessing, network=name, verification=UNVERIFIED
    )


class ForeignGraph:
    """A graph float [N, C, h, w] or [N, h, w, C] -> scores [N, K].

    Args:
        session: Of the file.
        data: The file.
        metadata: As `described` makes it.
        scores: Whether its outputs are logits or probabilities; found out with `auto`.

    Raises:
        ServingError: The graph is another one, or does not fit the classes or the preprocessing.
    """

    def __init__(self, session: Session, data: bytes, metadata: Metadata, scores: Scores) -> None:
        if scores not in get_args(Scores):
            raise ServingError(f"There are no scores {scores!r}.", hint=f"Known are {', '.join(get_args(Scores))}.")
        self._session, self._preprocessing, self._num_classes = session, metadata.preprocessing, len(metadata.classes)
        self._picture = _picture(session, metadata.preprocessing)
        makers = {output: node for node in nodes(data) for output in node.outputs}
        self._output = _output(session, self._num_classes, makers)
        maker = _maker(self._output, makers)
        if scores == "auto" and maker == "Sigmoid":
            raise ServingError(
                "The ONNX file ends in a sigmoid: it judges each class by itself, and cutaway shows classes of which "
                "one is right.",
                hint="If one is right all the same, say so: --scores logits or --scores probabilities.",
            )
        self._are_probabilities = scores == "probabilities" or (
            scores == "auto" and (maker == "Softmax" or self._sums_to_one())
        )

    def answers(
        self, seen: Sequence[Pixels], targets: npt.NDArray[np.int64], *, explain: bool, features: bool
    ) -> Answers:
        """As of `OwnGraph`, without heat-maps and feature maps: the file has none."""
        scores = self._scores(self._preprocessing.normalise(np.stack(seen)))
        if not self._are_probabilities:
            shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores = shifted / shifted.sum(axis=1, keepdims=True)
        elif not _look_like_probabilities(scores):
            raise ServingError(
                "The ONNX file's outputs are not probabilities: they do not lie between 0 and 1 and sum to 1.",
                hint="Say what they are: --scores logits.",
            )
        return Answers(scores.astype(np.float32))

    def _scores(self, inputs: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """float32 [N, C, h, w] -> float64 [N, K], in as many runs as a fixed batch needs."""
        if self._picture.layout == "NHWC":
            inputs = inputs.transpose(0, 2, 3, 1)
        fed = np.ascontiguousarray(inputs, dtype=self._picture.kind)
        step = self._picture.batch or len(fed)
        rows = []
        for start in range(0, len(fed), step):
            part = fed[start : start + step]
            # A fixed batch is filled up with its last picture, whose further answers are dropped.
            filled = np.concatenate([part, np.repeat(part[-1:], step - len(part), axis=0)])
            (output,) = run(self._session, [self._output], {self._picture.name: filled})
            if output.size != step * self._num_classes or len(output) != step:
                raise ServingError(
                    f"The ONNX file gives outputs of shape {list(output.shape)} for {step} pictures, "
                    f"and {self._num_classes} classes are named."
                )
            rows.append(output.reshape(step, self._num_classes)[: len(part)].astype(np.float64))
        return np.concatenate(rows)

    def _sums_to_one(self) -> bool:
        """Whether the answers to a few pictures that have nothing in common are all probabilities."""
        shape = (*self._preprocessing.size, self._preprocessing.channels)
        noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        pictures = np.stack([np.zeros(shape, np.uint8), noise, np.full(shape, 255, np.uint8)])
        return _look_like_probabilities(self._scores(self._preprocessing.normalise(pictures)))


def _picture(session: Session, preprocessing: Preprocessing) -> _Picture:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(node.name for node in inputs) or "none"
        raise ServingError(f"The ONNX file has {len(inputs)} inputs ({names}), and a classifier of pictures takes one.")
    (node,) = inputs
    shape = list(node.shape or ())
    if node.type not in _FLOATS:
        raise ServingError(
            f"The ONNX file's input '{node.name}' is a {node.type}, and normalised pictures are floats.",
            hint="Export the network without preprocessing of its own.",
        )
    if len(shape) != 4:
        raise ServingError(
            f"The ONNX file's input '{node.name}' has the shape {shape}, and pictures are [N, C, h, w] or [N, h, w, C]."
        )
    channels, size = preprocessing.channels, preprocessing.size
    layouts: dict[Layout, _Sides] = {
        "NCHW": _Sides(shape[1], shape[2], shape[3]),
        "NHWC": _Sides(shape[3], shape[1], shape[2]),
    }
    with_channels = {layout: sides for layout, sides in layouts.items() if _fits(sides.channels, channels)}
    fitting = [
        layout
        for layout, sides in with_channels.items()
        if _fits(sides.height, size[0]) and _fits(sides.width, size[1])
    ]
    if not with_channels:
        raise ServingError(
            f"The ONNX file's input has the shape {shape}, and the preprocessing gives {channels} "
            f"channel{'s' if channels > 1 else ''}.",
            hint="Its `color` says how many: rgb and grey3 are three, grey is one.",
        )
    if not fitting:
        takes = min(with_channels.values(), key=lambda sides: sides.channels != channels)
        raise ServingError(
            f"The ONNX file takes pictures of {takes.height}x{takes.width} (height x width) and the preprocessing "
            f"gives {size[0]}x{size[1]}.",
            hint="Set the preprocessing's `size`.",
        )
    batch = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else None
    return _Picture(node.name, _FLOATS[node.type], fitting[0], batch)


def _output(session: Session, num_classes: int, makers: Mapping[str, Node]) -> str:
    """The one output with a number for each class; of several, the one that a softmax makes."""
    outputs: dict[str, list[int | str | None]] = {
        node.name: list(node.shape or ()) for node in session.get_outputs() if node.type in _FLOATS
    }
    fitting = [name for name, shape in outputs.items() if _is_scores(shape, num_classes)]
    probable = [name for name in fitting if _maker(name, makers) == "Softmax"]
    for chosen in (probable, fitting):
        if len(chosen) == 1:
            return chosen[0]
    listed = ", ".join(f"{name} {shape}" for name, shape in outputs.items()) or "no floats"
    if not fitting:
        raise ServingError(
            f"The ONNX file gives {listed}, and {num_classes} classes are named: none is [N, {num_classes}].",
            hint="Name as many classes as the network has outputs, in their order.",
        )
    raise ServingError(
        f"The ONNX file gives {listed}, and which of them are the scores of the classes cannot be told.",
        hint="Export it with one output.",
    )


def _is_scores(shape: Sequence[int | str | None], num_classes: int) -> bool:
    """[N, K], also with further dimensions of 1; an open dimension may be anything."""
    return len(shape) >= 2 and _fits(shape[1], num_classes) and all(_fits(side, 1) for side in shape[2:])


def _maker(output: str, makers: Mapping[str, Node]) -> str:
    """Name of the operator whose numbers an output shows; empty where there is none."""
    for _ in range(len(makers) + 1):
        node = makers.get(output)
        if node is None:
            return ""
        if node.op_type not in _PASSING_ON or not node.inputs:
            return node.op_type
        output = node.inputs[0]
    return ""


def _fits(dimension: int | str | None, wanted: int) -> bool:
    return dimension == wanted or not isinstance(dimension, int) or dimension < 0


def _look_like_probabilities(scores: npt.NDArray[np.float64]) -> bool:
    within = (scores >= -_SUM_TOLERANCE).all() and (scores <= 1 + _SUM_TOLERANCE).all()
    return bool(within and (np.abs(scores.sum(axis=1) - 1) <= _SUM_TOLERANCE).all())
