"""Compares a file that was exported earlier with a network again, by the limits that it was held to at export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from cutaway.datasets import Split
from cutaway.errors import ExportError, NetworkError
from cutaway.hooks import untouched
from cutaway.networks.target_layers import TargetLayer, find_target_layer
from cutaway.preprocessing.spec import Pixels, Preprocessing
from cutaway.progress import Track, silent
from cutaway.serve.classifier import Classifier
from cutaway.serve.export.checking import check_classifier, check_pictures
from cutaway.serve.export.features import find_feature_layers
from cutaway.serve.export.figures import DEFAULT_THRESHOLDS, Figures
from cutaway.serve.export.forms.judging import (
    DEFAULT_LIMITS,
    WITH_FEATURES,
    FormAnswers,
    FormFigures,
    Limits,
    ask,
    in_batches,
    measure,
    objection,
)
from cutaway.serve.export.generated import generated_pictures
from cutaway.serve.export.methods import find_method
from cutaway.serve.export.reference import Held
from cutaway.serve.export.verdict import DisagreementError, limits_of, thresholds_of
from cutaway.serve.metadata import Metadata
from cutaway.serve.sessions import Provider

_PREPARING = tuple(Preprocessing.model_fields)
_HINT = "Compare it with the network that it was made of, or export it again."


@dataclass(frozen=True)
class FileComparison:
    """A file beside a network.

    Attributes:
        path: The file.
        metadata: What it says of itself.
        device: `cpu` or `cuda`, where it was run.
        figures: Measured against PyTorch; of a smaller form, on labelled pictures.
        limits: What they were held to, by the names of the metadata.
        notes: What a person should know beside the figures, a sentence each: another bundle, looser limits.
        against: What speaks against the file; None where it passes.
    """

    path: Path
    metadata: Metadata
    device: str
    figures: Figures | FormFigures
    limits: Mapping[str, float]
    notes: tuple[str, ...] = ()
    against: ExportError | None = None

    @property
    def passes(self) -> bool:
        """Whether the file keeps its limits."""
        return self.against is None


def verify_file(
    path: Path | str,
    network: nn.Module,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    *,
    images: Sequence[Pixels] = (),
    validation: Split | None = None,
    bundle: str = "",
    weights: str = "",
    provider: Provider = "cpu",
    track: Track = silent,
) -> FileComparison:
    """Compares an exported file with its network, as export did before it called the file done.

    A file in fp32 is held to PyTorch's numbers. A smaller form is held to PyTorch's accuracy, top classes and heat-maps
    on labelled pictures. Both by the limits that the file says it was held to.

    Args:
        path: A file that `cutaway export` made.
        network: What it is held against, on the CPU, in any mode; it is left as it was found.
        preprocessing: Of the network.
        classes: Label names in output order.
        images: Of a file in fp32: real pictures, uint8 [H, W, 1 or 3], each of any size; generated ones without any.
        validation: Of a smaller form: labelled pictures, in the order of the classes.
        bundle: SHA-256 of the manifest of the bundle that the network is from; empty without one.
        weights: SHA-256 of the file that its weights are from, without a bundle; empty where that is not known.
        provider: Where the file is run; the network is run on the CPU.
        track: Told of every step.

    Raises:
        ExportError: The file disagrees with the network, or is of other classes or layers.
        ServingError: The file is missing, damaged or not one of ours.
        DeviceError: The provider is not there.

    Example:
        >>> verify_file("model.onnx", network, imagenet(), ["cat", "dog"], images=[photo], provider="cuda")
    """
    comparison = compare_file(
        path,
        network,
        preprocessing,
        classes,
        images=images,
        validation=validation,
        bundle=bundle,
        weights=weights,
        provider=provider,
        track=track,
    )
    if comparison.against is not None:
        raise comparison.against
    return comparison


def compare_file(
    path: Path | str,
    network: nn.Module,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    *,
    images: Sequence[Pixels] = (),
    validation: Split | None = None,
    bundle: str = "",
    weights: str = "",
    provider: Provider = "cpu",
    track: Track = silent,
) -> FileComparison:
    """`verify_file` that gives the figures also where they speak against the file; its arguments and other errors."""
    path = Path(path)
    check_pictures(images)
    classifier = Classifier(path, provider=provider)
    metadata = classifier.metadata
    _check_classes(metadata.classes, tuple(classes))
    with untouched(network):
        network.eval()
        check_classifier(network, preprocessing, classes)
        held = Held(
            network,
            preprocessing,
            _target(network, preprocessing, metadata),
            "" if metadata.method is None else find_method(metadata.method).name,
            find_feature_layers(network, preprocessing.input_shape, [each.layer for each in metadata.features]),
            metadata.input,
            metadata.temperature,
        )
        notes = [*_of_another(metadata, bundle, weights), *_prepared_otherwise(metadata, preprocessing)]
        if metadata.precision == "fp32":
            if not images:
                notes.append("The pictures were generated, since there were none.")
            pictures = list(images) or generated_pictures(preprocessing)
            judged = _judged(path, metadata, held, pictures, provider, track)
        else:
            judged = _judged_form(classifier, held, validation, track)
    notes += _loosened(judged.limits, judged.usual)
    return FileComparison(
        path, metadata, classifier.device, judged.figures, judged.limits, tuple(notes), judged.against
    )


@dataclass(frozen=True)
class _Judged:
    figures: Figures | FormFigures
    limits: Mapping[str, float]
    usual: Mapping[str, float]
    against: ExportError | None = None


def _judged(
    path: Path, metadata: Metadata, held: Held, pictures: Sequence[Pixels], provider: Provider, track: Track
) -> _Judged:
    """A file in fp32, which should give what PyTorch does."""
    thresholds = thresholds_of(metadata.verification.thresholds)
    limits, usual = (
        limits_of(each, explains=metadata.explains, features=bool(metadata.features))
        for each in (thresholds, DEFAULT_THRESHOLDS)
    )
    try:
        return _Judged(held.verify(path, pictures, thresholds, provider, track), limits, usual)
    except DisagreementError as doubt:
        return _Judged(doubt.figures, limits, usual, ExportError(doubt.message, hint=_HINT))


def _judged_form(form: Classifier, held: Held, validation: Split | None, track: Track) -> _Judged:
    """A smaller form, which may lose some accuracy."""
    metadata = form.metadata
    said = metadata.verification.thresholds
    form_limits = Limits(**{name: said[name] for name in asdict(DEFAULT_LIMITS) if name in said})
    limits, usual = (
        each.named(explains=metadata.explains, features=bool(metadata.features))
        for each in (form_limits, DEFAULT_LIMITS)
    )
    figures = _figures_of_form(form, held, validation, track)
    complaint = objection(figures, form_limits)
    if not complaint:
        return _Judged(figures, limits, usual)
    message = f"The {metadata.precision} form is not as good as PyTorch in fp32: {complaint}."
    return _Judged(figures, limits, usual, ExportError(message, hint=_HINT))


def _check_classes(of_file: tuple[str, ...], of_network: tuple[str, ...]) -> None:
    if of_file == of_network:
        return
    if len(of_file) != len(of_network):
        raise ExportError(f"The file has {len(of_file)} classes, and the network {len(of_network)}.", hint=_HINT)
    place, (ours, theirs) = next(
        (at, pair) for at, pair in enumerate(zip(of_file, of_network, strict=True)) if pair[0] != pair[1]
    )
    raise ExportError(f"The file calls output {place} {ours!r}, and the network {theirs!r}.", hint=_HINT)


def _target(network: nn.Module, preprocessing: Preprocessing, metadata: Metadata) -> TargetLayer | None:
    if metadata.target_layer is None:
        return None
    try:
        return find_target_layer(network, preprocessing.input_shape, metadata.target_layer)
    except NetworkError as error:
        raise ExportError(f"The file's heat-map is read at a layer of another network: {error.message}") from error


def _of_another(metadata: Metadata, bundle: str, weights: str) -> list[str]:
    """Where the file names another origin than what it is held against. The figures decide: weights may be the same."""
    if metadata.bundle != bundle:
        made_of, beside = (
            f"the bundle {digest[:12]}" if digest else "a network without a bundle"
            for digest in (metadata.bundle, bundle)
        )
    elif metadata.weights and weights and metadata.weights != weights:
        made_of, beside = (f"the weights file {digest[:12]}" for digest in (metadata.weights, weights))
    else:
        return []
    return [f"The file was made of {made_of}, and is compared with {beside}."]


def _prepared_otherwise(metadata: Metadata, preprocessing: Preprocessing) -> list[str]:
    if metadata.preprocessing == preprocessing:
        return []
    pairs = {name: (getattr(metadata.preprocessing, name), getattr(preprocessing, name)) for name in _PREPARING}
    others = [f"{name} {ours} and not {theirs}" for name, (ours, theirs) in pairs.items() if ours != theirs]
    return [f"The file prepares pictures otherwise than the network: {', '.join(others)}."]


def _loosened(limits: Mapping[str, float], usual: Mapping[str, float]) -> list[str]:
    """The file's limits are its own word: where they allow more than usual, a person should know."""
    looser = [
        f"{name} {limit:g} in place of {usual[name]:g}"
        for name, limit in limits.items()
        if (limit > usual[name] if name.endswith(("difference", "drop")) else limit < usual[name])
    ]
    return [f"The file is held to looser limits than usual: {', '.join(looser)}."] if looser else []


def _figures_of_form(form: Classifier, held: Held, validation: Split | None, track: Track) -> FormFigures:
    if validation is None or not len(validation):
        raise ExportError(f"A file in {form.metadata.precision} is judged on labelled pictures, and there are none.")
    told = _by_pytorch(held, validation, track)
    answers = ask(form, validation, told.top.tolist(), track=track)
    if answers.heatmaps is not None and told.heatmaps is not None and answers.heatmaps.shape != told.heatmaps.shape:
        ours, theirs = answers.heatmaps.shape[1:], told.heatmaps.shape[1:]
        raise ExportError(f"The file's heat-maps are of shape {ours}, PyTorch's are {theirs}.", hint=_HINT)
    return measure(told, answers, validation.labels)


def _by_pytorch(held: Held, split: Split, track: Track) -> FormAnswers:
    """The network's own answers to a split, explaining its top classes."""
    reference = held.reference
    probabilities, heatmaps = [], []
    features: dict[str, npt.NDArray[np.float32]] = {}
    for places in track(*in_batches(split, "fp32 by PyTorch")):
        seen = np.stack([held.preprocessing.picture(split.image(place)) for place in places])
        inputs = torch.from_numpy(held.preprocessing.normalise(seen))
        answer = reference(inputs, torch.full((len(places),), -1))
        probabilities.append((answer.logits / (held.temperature or 1.0)).softmax(1).numpy())
        if answer.heatmap is not None:
            heatmaps.append(answer.heatmap.numpy())
        if places.start == 0:
            features = {layer.name: answer.features[layer.output][:WITH_FEATURES].numpy() for layer in held.features}
    return FormAnswers(np.concatenate(probabilities), np.concatenate(heatmaps) if heatmaps else None, features)
