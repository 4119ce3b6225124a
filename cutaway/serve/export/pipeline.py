"""From a bundle or a plain network to a verified ONNX file: trace, convert, write, verify, and only then be there."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, nn

from cutaway.checkpoints import Restored
from cutaway.errors import CutawayError, ExportError, NetworkError
from cutaway.evaluation import Evaluation
from cutaway.hooks import untouched
from cutaway.inspect.class_activation import grad_cam
from cutaway.networks.target_layers import TargetLayer, find_target_layer
from cutaway.preprocessing.spec import Pixels, Preprocessing
from cutaway.preprocessing.tensors import Preprocess
from cutaway.progress import Track, silent
from cutaway.serve.export.conversion import convert, serialise
from cutaway.serve.export.graph import Explained, ExplainedGraph, PlainGraph
from cutaway.serve.export.methods import find_method
from cutaway.serve.export.tracing import trace
from cutaway.serve.export.verification import DEFAULT_THRESHOLDS, NUM_PICTURES, Figures, Reference, Thresholds, verify
from cutaway.serve.export.writing import whole_or_nothing
from cutaway.serve.metadata import Metadata, Verification

InputForm = Literal["pixels", "float"]
Explain = bool | Literal["auto"]

_T = TypeVar("_T")
_LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class ExportResult:
    """An exported and verified file.

    Attributes:
        path: The file.
        num_bytes: Its size.
        metadata: What it says about itself.
        figures: Measured against PyTorch.
        why_not_explained: A sentence where a heat-map was left to `auto` and the network has none; otherwise empty.
    """

    path: Path
    num_bytes: int
    metadata: Metadata
    figures: Figures
    why_not_explained: str = ""

    @property
    def explained(self) -> bool:
        """Whether the file has a heat-map output."""
        return self.metadata.explains


@dataclass(frozen=True)
class Origin:
    """Where a network comes from, for the file's metadata.

    Attributes:
        network: Its name.
        bundle: SHA-256 of its bundle's manifest; empty without one.
        metrics: By name.
        confusion_matrix: Counts [K][K], rows are the truth.
    """

    network: str
    bundle: str = ""
    metrics: Mapping[str, float] | None = None
    confusion_matrix: list[list[int]] | None = None


def export(
    restored: Restored,
    out: Path,
    *,
    images: Sequence[Pixels],
    explain: Explain = "auto",
    target_layer: str | None = None,
    method: str = "grad-cam",
    input_form: InputForm = "pixels",
    evaluation: Evaluation | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    track: Track = silent,
) -> ExportResult:
    """Exports a bundle's network to one ONNX file and verifies it.

    Args:
        restored: What `cutaway.checkpoints.restore` gave, on the CPU.
        out: The file.
        images: Real pictures to verify with, uint8 [H, W, 1 or 3], each of any size; the first 15 are used.
        explain: Whether the file computes a heat-map; `auto` where the network has a layer for one.
        target_layer: Where the heat-map is read; found where None.
        method: How the heat-map is computed.
        input_form: `pixels` for decoded uint8 [N, H, W, 3] of any size with the preprocessing in the graph, `float`
            for normalised float32 [N, C, h, w].
        evaluation: Over the test split, for the metadata's confusion matrix.
        thresholds: What the file is held to.
        track: Told of every step.

    Raises:
        ExportError: The network cannot be exported, or the file disagrees with it; no file is left.
        NetworkError: There is no such target layer.
    """
    origin = Origin(
        network=restored.spec.name,
        bundle=restored.manifest.digest(),
        metrics=restored.manifest.metrics,
        confusion_matrix=None if evaluation is None else evaluation.confusion.tolist(),
    )
    return export_module(
        restored.network,
        restored.preprocessing,
        restored.classes,
        out,
        images=images,
        explain=explain,
        target_layer=target_layer,
        method=method,
        input_form=input_form,
        origin=origin,
        thresholds=thresholds,
        track=track,
    )


def export_module(
    network: nn.Module,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    out: Path,
    *,
    images: Sequence[Pixels] = (),
    explain: Explain = "auto",
    target_layer: str | None = None,
    method: str = "grad-cam",
    input_form: InputForm = "pixels",
    origin: Origin | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    track: Track = silent,
) -> ExportResult:
    """`export` for any classifier of one's own.

    Args:
        network: On the CPU, in any mode; it is exported in evaluation mode and left as it was found.
        preprocessing: From decoded pixels to its input.
        classes: Label names in output order.
        out: The file.
        images: As of `export`; generated noise where there are none, and the metadata says so.
        explain: As of `export`.
        target_layer: As of `export`.
        method: As of `export`.
        input_form: As of `export`.
        origin: For the metadata.
        thresholds: As of `export`.
        track: As of `export`.

    Raises:
        ExportError: The network cannot be exported, or the file disagrees with it; no file is left.
        NetworkError: There is no such target layer.

    Example:
        >>> export_module(network, imagenet(), ["cat", "dog"], Path("pets.onnx"), images=[photo])
    """
    pictures = list(images) or _noise(preprocessing)
    with untouched(network):
        network.eval()
        _check_classifier(network, preprocessing, classes)
        target, why_not = _target(network, preprocessing, explain, target_layer)
        model = _step(track, "tracing", lambda: _model(network, preprocessing, target, method, input_form))
        metadata = Metadata(
            input=input_form,
            classes=tuple(classes),
            preprocessing=preprocessing,
            target_layer=None if target is None else target.name,
            method=None if target is None else method,
            versions=_versions(),
            verification=Verification(data=_said_of(images), thresholds=_limits(thresholds, target)),
            **_described(origin or Origin(type(network).__name__)),
        )
        data = serialise(model, metadata)
        del model
        with whole_or_nothing(out, data) as temporary:
            num_bytes = len(data)
            reference = _reference(network, target, method)
            figures = verify(
                temporary, reference, preprocessing, pictures, input_form=input_form, thresholds=thresholds, track=track
            )
    return ExportResult(out, num_bytes, metadata, figures, why_not)


def _check_classifier(network: nn.Module, preprocessing: Preprocessing, classes: Sequence[str]) -> None:
    wrong = sorted({t.device.type for t in (*network.parameters(), *network.buffers())} - {"cpu"})
    if wrong:
        raise ExportError(f"The network is on {', '.join(wrong)}.", hint="Export it from the CPU: network.cpu().")
    with torch.no_grad():
        try:
            output = network(torch.zeros(2, *preprocessing.input_shape))
        except Exception as error:
            shape = [2, *preprocessing.input_shape]
            raise ExportError(f"The network does not run on inputs of shape {shape}: {_first_line(error)}") from error
    if not isinstance(output, Tensor):
        raise ExportError(
            f"The network returns a {type(output).__name__}, not a tensor of logits.",
            hint="Wrap it in a module that returns the logits alone.",
        )
    if tuple(output.shape) != (2, len(classes)):
        raise ExportError(
            f"For 2 pictures and {len(classes)} classes the network must return logits [2, {len(classes)}], "
            f"and it returns {list(output.shape)}.",
        )


def _target(
    network: nn.Module, preprocessing: Preprocessing, explain: Explain, name: str | None
) -> tuple[TargetLayer | None, str]:
    """The target layer, or None and why."""
    if explain is False:
        return None, ""
    try:
        return find_target_layer(network, preprocessing.input_shape, name), ""
    except NetworkError as error:
        if explain == "auto" and name is None:
            return None, error.message
        if name is not None:
            raise
        raise ExportError(error.message, hint="Export it without a heat-map: --no-explain.") from error


def _model(
    network: nn.Module, preprocessing: Preprocessing, target: TargetLayer | None, method: str, input_form: InputForm
) -> ModelProto:
    """Traces and converts: the two steps in which a network may turn out not to be exportable."""
    # Height and width that differ from each other and from everything else, so that no two dimensions are taken for
    # the same by chance.
    pixels = input_form == "pixels"
    images = torch.zeros(2, 37, 53, 3, dtype=torch.uint8) if pixels else torch.zeros(2, *preprocessing.input_shape)
    open_images = {0: "N", 1: "H", 2: "W"} if pixels else {0: "N"}
    preprocess = Preprocess(preprocessing) if pixels else None
    class_index = torch.tensor([-1, 0])
    try:
        if target is None:
            return convert(
                PlainGraph(network, preprocess).eval(),
                (images,),
                open_dimensions=(open_images,),
                input_names=("images",),
                output_names=PlainGraph.output_names,
            )
        explained = Explained(network, target, find_method(method))
        traced = trace(explained, torch.zeros(2, *preprocessing.input_shape), class_index)
        return convert(
            ExplainedGraph(traced, preprocess).eval(),
            (images, class_index),
            open_dimensions=(open_images, {0: "N"}),
            input_names=("images", "class_index"),
            output_names=ExplainedGraph.output_names,
        )
    except CutawayError:
        raise
    except Exception as error:
        hint = "A forward pass that branches on the values of tensors cannot be exported."
        if target is not None:
            hint = f"Without a heat-map it may be: --no-explain. {hint}"
        raise ExportError(f"The network cannot be exported: {_first_line(error)}", hint=hint) from error


def _reference(network: nn.Module, target: TargetLayer | None, method: str) -> Reference:
    """The network's own answer, by PyTorch."""

    def plain(inputs: Tensor, class_index: Tensor) -> tuple[Tensor, Tensor | None]:
        with torch.no_grad():
            return network(inputs), None

    def explained(inputs: Tensor, class_index: Tensor) -> tuple[Tensor, Tensor | None]:
        activation = grad_cam(network, inputs, target, class_index)
        return activation.logits, activation.maps

    assert method == "grad-cam", "the only method so far"
    return plain if target is None else explained


def _described(origin: Origin) -> dict[str, object]:
    return {
        "network": origin.network,
        "bundle": origin.bundle,
        "metrics": dict(origin.metrics or {}),
        "confusion_matrix": origin.confusion_matrix,
    }


def _said_of(images: Sequence[Pixels]) -> str:
    if not images:
        return "generated noise, because no pictures were given"
    return f"{min(len(images), NUM_PICTURES)} given pictures"


def _limits(thresholds: Thresholds, target: TargetLayer | None) -> dict[str, float]:
    probability = {"probability_difference": thresholds.probability, "top1_agreement": 1.0}
    if target is None:
        return probability
    return probability | {
        "heatmap_correlation": thresholds.heatmap_correlation,
        "heatmap_difference": thresholds.heatmap_difference,
        "heatmap_share": thresholds.heatmap_share,
    }


def _versions() -> dict[str, str]:
    from cutaway import __version__

    # Of the modules and not of the distributions: onnxruntime also comes as onnxruntime-gpu. Without what stands after
    # a plus, such as torch's CUDA, which has no part in an export on the CPU.
    libraries = {name: str(importlib.import_module(name).__version__).partition("+")[0] for name in _LIBRARIES}
    return {"cutaway": __version__, "python": platform.python_version()} | libraries


def _noise(preprocessing: Preprocessing) -> list[Pixels]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*preprocessing.size, 3), dtype=np.uint8) for _ in range(8)]


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _step(track: Track, description: str, work: Callable[[], _T]) -> _T:
    """Shows one piece of work as one step."""
    (result,) = track((work() for _ in range(1)), description, 1)
    return result
