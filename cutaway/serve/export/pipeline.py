"""From a bundle or a plain network to a verified ONNX file: trace, convert, write, verify, and only then be there."""

from __future__ import annotations

import importlib
import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from onnx import ModelProto
from torch import Tensor, nn

from cutaway.checkpoints import Restored
from cutaway.errors import CutawayError, ExportError, NetworkError
from cutaway.evaluation import Evaluation
from cutaway.hooks import untouched
from cutaway.inspect.class_activation import Method
from cutaway.networks.target_layers import TargetLayer, find_target_layer
from cutaway.preprocessing.spec import Pixels, Preprocessing
from cutaway.preprocessing.tensors import Preprocess
from cutaway.progress import Track, silent
from cutaway.serve.export.checking import check_classifier, check_pictures
from cutaway.serve.export.conversion import LARGEST_FILE, OPSET, check_opset, convert, serialise
from cutaway.serve.export.features import FeatureLayer, find_feature_layers
from cutaway.serve.export.figures import DEFAULT_THRESHOLDS, Thresholds
from cutaway.serve.export.generated import generated_pictures
from cutaway.serve.export.graph import Explained, Graph, Plain, output_names
from cutaway.serve.export.methods import find_method
from cutaway.serve.export.reference import Held
from cutaway.serve.export.results import Explain, ExportResult, InputForm, Origin
from cutaway.serve.export.tracing import trace
from cutaway.serve.export.tracing_failures import not_exportable, quietly
from cutaway.serve.export.verdict import limits_of
from cutaway.serve.export.verification import NUM_PICTURES
from cutaway.serve.metadata import Metadata, Verification
from cutaway.serve.writing import check_place, whole_or_nothing

_T = TypeVar("_T")
GIVEN = "given pictures"
_LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime")


def export(
    restored: Restored,
    out: Path | str,
    *,
    images: Sequence[Pixels],
    images_are: str = GIVEN,
    explain: Explain = "auto",
    target_layer: str | None = None,
    method: str = "grad-cam",
    layers: Sequence[str] = (),
    opset: int = OPSET,
    input_form: InputForm = "pixels",
    temperature: float | None = None,
    evaluation: Evaluation | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    track: Track = silent,
) -> ExportResult:
    """Exports a bundle's network to one ONNX file and verifies it.

    Args:
        restored: What `cutaway.checkpoints.restore` gave, on the CPU.
        out: The file.
        images: Real pictures to verify with, uint8 [H, W, 1 or 3], each of any size; the first 15 are used.
        images_are: What they are, for the metadata.
        explain: Whether the file computes a heat-map; `auto` where the network has a layer for one.
        target_layer: Where the heat-map is read; found where None.
        method: How the heat-map is computed; a name in `METHODS`.
        layers: Whose outputs the file gives too, as `features.<layer>`.
        opset: ONNX's version of its operators, one of `OPSETS`.
        input_form: `pixels` for decoded uint8 [N, H, W, 3] of any size with the preprocessing in the graph, `float`
            for normalised float32 [N, C, h, w].
        temperature: What logits are divided by before the softmax, as `calibrate` fits it; None where they are not.
        evaluation: Over the test split, for the metadata's confusion matrix.
        thresholds: What the file is held to.
        track: Told of every step.

    Raises:
        ExportError: The network cannot be exported, or the file disagrees with it; no file is left.
        NetworkError: There is no such target layer.
    """
    return export_module(
        restored.network,
        restored.preprocessing,
        restored.classes,
        out,
        images=images,
        images_are=images_are,
        explain=explain,
        target_layer=target_layer,
        method=method,
        layers=layers,
        opset=opset,
        input_form=input_form,
        temperature=temperature,
        origin=Origin.of_bundle(restored, evaluation),
        thresholds=thresholds,
        track=track,
    )


def export_module(
    network: nn.Module,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    out: Path | str,
    *,
    images: Sequence[Pixels] = (),
    images_are: str = GIVEN,
    explain: Explain = "auto",
    target_layer: str | None = None,
    method: str = "grad-cam",
    layers: Sequence[str] = (),
    opset: int = OPSET,
    input_form: InputForm = "pixels",
    temperature: float | None = None,
    origin: Origin | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    largest_file: int = LARGEST_FILE,
    track: Track = silent,
) -> ExportResult:
    """`export` for any classifier of one's own.

    Args:
        network: On the CPU, in any mode; it is exported in evaluation mode and left as it was found.
        preprocessing: From decoded pixels to its input.
        classes: Label names in output order.
        out: The file.
        images: As of `export`; generated ones where there are none, and the metadata says so.
        images_are: As of `export`.
        explain: As of `export`.
        target_layer: As of `export`.
        method: As of `export`.
        layers: As of `export`.
        opset: As of `export`.
        input_form: As of `export`.
        temperature: As of `export`.
        origin: For the metadata.
        thresholds: As of `export`.
        largest_file: Bytes of weights above which they go into a second file, `out` with `.data` after its name.
        track: As of `export`.

    Raises:
        ExportError: The network cannot be exported, or the file disagrees with it; no file is left.
        NetworkError: There is no such target layer.

    Example:
        >>> export_module(network, imagenet(), ["cat", "dog"], "pets.onnx", images=[photo])
    """
    out = Path(out)
    check_opset(opset)
    if temperature is not None and not 0 < temperature < math.inf:
        raise ExportError(f"The temperature must be a number above 0, not {temperature}.")
    check_place(out)
    check_pictures(images)
    pictures = list(images) or generated_pictures(preprocessing)
    chosen = find_method(method)
    with untouched(network):
        network.eval()
        check_classifier(network, preprocessing, classes)
        target, why_not = _target(network, preprocessing, explain, target_layer)
        features = find_feature_layers(network, preprocessing.input_shape, layers)
        form = _Form(preprocessing, target, chosen, features, input_form, opset, temperature)
        model = _step(track, "tracing", lambda: _model(network, form))
        metadata = Metadata(
            input=input_form,
            classes=tuple(classes),
            preprocessing=preprocessing,
            target_layer=None if target is None else target.name,
            method=None if target is None else chosen.name,
            method_title=None if target is None else chosen.title,
            features=tuple(layer.described() for layer in features),
            temperature=temperature,
            versions=_versions(),
            verification=Verification(
                data=_said_of(images, images_are),
                thresholds=limits_of(thresholds, explains=target is not None, features=bool(features)),
            ),
            **_described(origin or Origin(type(network).__name__)),
        )
        data, beside, metadata = serialise(model, metadata, out.name, largest_file)
        del model
        with whole_or_nothing(out, data, beside) as temporary:
            num_bytes = len(data) + sum(len(part) for parts in beside.values() for part in parts)
            held = Held(network, preprocessing, target, chosen.name, features, input_form, temperature)
            figures = held.verify(temporary, pictures, thresholds, "cpu", track)
    return ExportResult(out, num_bytes, metadata, figures, why_not)


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


@dataclass(frozen=True)
class _Form:
    """What the file is to be."""

    preprocessing: Preprocessing
    target: TargetLayer | None
    method: Method
    layers: tuple[FeatureLayer, ...]
    input_form: InputForm
    opset: int
    temperature: float | None


def _model(network: nn.Module, form: _Form) -> ModelProto:
    """Traces and converts: the two steps in which a network may turn out not to be exportable."""
    # Height and width that differ from each other and from everything else, so that no two dimensions are taken for
    # the same by chance.
    inputs, pixels = torch.zeros(2, *form.preprocessing.input_shape), form.input_form == "pixels"
    example: tuple[Tensor, ...] = (torch.zeros(2, 37, 53, 3, dtype=torch.uint8) if pixels else inputs,)
    open_dimensions: tuple[dict[int, str], ...] = ({0: "N", 1: "H", 2: "W"} if pixels else {0: "N"},)
    answering: nn.Module = Plain(network, form.layers)
    try:
        with quietly():
            if form.target is not None:
                example, open_dimensions = (*example, torch.tensor([-1, 0])), (*open_dimensions, {0: "N"})
                answering = trace(Explained(network, form.target, form.method, form.layers), inputs, example[1])
            return convert(
                Graph(answering, Preprocess(form.preprocessing) if pixels else None, form.temperature).eval(),
                example,
                open_dimensions=open_dimensions,
                input_names=("images", "class_index")[: len(example)],
                output_names=output_names(form.target, form.layers),
                opset=form.opset,
            )
    except CutawayError:
        raise
    except Exception as error:
        raise not_exportable(error, explained=form.target is not None) from error


def _described(origin: Origin) -> dict[str, object]:
    return {
        "network": origin.network,
        "bundle": origin.bundle,
        "weights": origin.weights,
        "metrics": dict(origin.metrics or {}),
        "confusion_matrix": origin.confusion_matrix,
    }


def _said_of(images: Sequence[Pixels], images_are: str) -> str:
    if not images:
        return "generated pictures, because none were given"
    return f"{min(len(images), NUM_PICTURES)} {images_are}"


def _versions() -> dict[str, str]:
    from cutaway import __version__

    # Of the modules and not of the distributions: onnxruntime also comes as onnxruntime-gpu. Without what stands after
    # a plus, such as torch's CUDA, which has no part in an export on the CPU.
    libraries = {name: str(importlib.import_module(name).__version__).partition("+")[0] for name in _LIBRARIES}
    return {"cutaway": __version__, "python": platform.python_version()} | libraries


def _step(track: Track, description: str, work: Callable[[], _T]) -> _T:
    """Shows one piece of work as one step."""
    (result,) = track((work() for _ in range(1)), description, 1)
    return result
