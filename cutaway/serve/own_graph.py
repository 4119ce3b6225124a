"""How the graph of a file of ours is fed and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cutaway.errors import ServingError
from cutaway.heatmaps import is_empty
from cutaway.preprocessing.spec import Pixels, Preprocessing
from cutaway.serve.metadata import Metadata
from cutaway.serve.sessions import Session, run

__all__ = ["Answers", "OwnGraph"]


class Answers(NamedTuple):
    """What a graph says of N pictures.

    Attributes:
        probabilities: float32 [N, K].
        heatmaps: float32 [N, h, w]; None where none were asked for.
        faint: Bool [N], whether a heat-map holds nothing, or nothing but rounding; None where none were asked for.
        features: Layer to what it returned [N, ...].
    """

    probabilities: npt.NDArray[np.float32]
    heatmaps: npt.NDArray[np.float32] | None = None
    faint: npt.NDArray[np.bool_] | None = None
    features: Mapping[str, npt.NDArray[np.float32]] = MappingProxyType({})


class OwnGraph:
    """The graph that `cutaway export` writes, by the names that its metadata promises.

    Args:
        session: Of the file.
        metadata: Of the file.

    Raises:
        ServingError: The inputs and outputs are not those that the metadata promises.
    """

    def __init__(self, session: Session, metadata: Metadata) -> None:
        self._session, self._metadata = session, metadata
        inputs = {node.name: node.type for node in session.get_inputs()}
        outputs = {node.name: node.type for node in session.get_outputs()}
        expected = {
            "images": "tensor(uint8)" if metadata.input == "pixels" else "tensor(float)",
            **({"class_index": "tensor(int64)"} if metadata.explains else {}),
        }
        needed = {"logits", "probabilities"} | ({"heatmap"} if metadata.explains else set())
        needed |= {feature.output for feature in metadata.features}
        if inputs != expected or not needed <= outputs.keys():
            raise ServingError(
                f"The ONNX file takes {_listed(inputs)} and gives {_listed(outputs)}; its metadata promises otherwise.",
                hint="Export it again.",
            )
        # Files of earlier versions have no flag.
        self._says_faint = "heatmap_faint" in outputs

    def answers(
        self, seen: Sequence[Pixels], targets: npt.NDArray[np.int64], *, explain: bool, features: bool
    ) -> Answers:
        """Runs the network on what it is to see.

        Args:
            seen: uint8 [h, w, C] each, as `Preprocessing.picture` gives them.
            targets: int64 [N], the class to explain in each; -1 for the top one.
            explain: Whether to give heat-maps.
            features: Whether to give feature maps.

        Raises:
            ServingError: It does not run, or its answer is not what the metadata promises.
        """
        feed: dict[str, npt.NDArray[Any]] = {"images": network_input(seen, self._metadata)}
        if self._metadata.explains:
            feed["class_index"] = targets
        explain = explain and self._metadata.explains
        layers = {feature.output: feature.layer for feature in self._metadata.features if features}
        heatmap = ["heatmap", "heatmap_faint"] if self._says_faint else ["heatmap"]
        names = ["probabilities", *(heatmap if explain else ()), *layers]
        outputs = dict(zip(names, run(self._session, names, feed), strict=True))
        probabilities, heatmaps = outputs["probabilities"], outputs.get("heatmap")
        num_classes = len(self._metadata.classes)
        if probabilities.shape != (len(seen), num_classes):
            raise ServingError(
                f"The ONNX file's metadata names {num_classes} classes, and its network gives "
                f"probabilities of shape {list(probabilities.shape)}.",
                hint="Export it again.",
            )
        if heatmaps is not None and (heatmaps.ndim != 3 or len(heatmaps) != len(seen)):
            raise ServingError(
                f"The ONNX file's heat-map has the shape {list(heatmaps.shape)} for {len(seen)} pictures.",
                hint="Export it again.",
            )
        faint = None if heatmaps is None else outputs.get("heatmap_faint")
        if heatmaps is not None and faint is None:
            faint = np.array([is_empty(each) for each in heatmaps])
        return Answers(probabilities, heatmaps, faint, {layer: outputs[name] for name, layer in layers.items()})


def network_input(seen: Sequence[Pixels], metadata: Metadata) -> npt.NDArray[Any]:
    """What the network is fed: pixels already resized, on which the graph's own resize and crop change nothing."""
    pictures = np.stack(seen)
    if metadata.input == "float":
        return metadata.preprocessing.normalise(pictures)
    if pictures.shape[3] == 1:
        pictures = np.repeat(pictures, 3, axis=3)  # its luma is the same grey again
    return _framed(pictures, metadata.preprocessing)


def _framed(pictures: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Puts a black frame of the width that the graph's centre crop will cut off again, where there is such a crop."""
    if preprocessing.resize_to is None:
        return pictures
    side = preprocessing.resize_to
    (top, left), (height, width) = preprocessing.crop_offset(side, side), preprocessing.size
    framed = np.zeros((len(pictures), side, side, 3), np.uint8)
    framed[:, top : top + height, left : left + width] = pictures
    return framed


def _listed(nodes: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in nodes.items()) or "nothing"
