"""Gathering what the report shows: from a bundle, or from any network with some pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cutaway.checkpoints import Restored
from cutaway.datasets import Dataset, Split
from cutaway.errors import NetworkError
from cutaway.heatmaps import overlay
from cutaway.inspect.class_activation import grad_cam
from cutaway.inspect.classwise import Answers, class_scores, telling_samples
from cutaway.inspect.features import FeatureMaps, feature_maps, first_kernels
from cutaway.inspect.histograms import weight_histograms
from cutaway.inspect.layer_rendering import byte_count, count
from cutaway.inspect.layers import layer_table
from cutaway.inspect.report import PICTURE_SIDE, Explanation, ReportData, SampleView
from cutaway.inspect.tiles import fitted
from cutaway.networks.target_layers import TargetLayer, find_target_layer
from cutaway.preprocessing.spec import Pixels, Preprocessing
from cutaway.progress import Track, silent


def assemble_report(
    restored: Restored,
    dataset: Dataset,
    evaluation: Answers,
    *,
    split: str = "test",
    journal: Sequence[Mapping[str, Any]] = (),
    title: str | None = None,
    right: int = 10,
    wrong: int = 9,
    target_layer: str | None = None,
    track: Track = silent,
) -> ReportData:
    """Gathers a bundle's report.

    Args:
        restored: The bundle.
        dataset: The data that it was trained on.
        evaluation: The network's answers over `split`, in its order.
        split: `train`, `valid` or `test`.
        journal: One row per epoch, from the run's journal.
        title: The heading; the network's and the data set's names if None.
        right: How many recognised pictures to explain.
        wrong: How many of the most confident mistakes to explain.
        target_layer: Where to read class activation maps; the default of the network if None.
        track: Shows progress.
    """
    manifest = restored.manifest
    return report_on(
        restored.network,
        restored.preprocessing,
        restored.classes,
        dataset.split(split),
        evaluation,
        title=title or f"{restored.spec.name} on {dataset.name}",
        subtitle=(
            f"{dataset.source.rstrip('.')}. Epoch {manifest.progress.epoch}, step {manifest.progress.step}, "
            f"saved {manifest.created[:10]}, bundle {manifest.digest()[:12]}."
        ),
        # Where the data lay is nobody else's business; its name says enough.
        settings=manifest.configuration | {"data": manifest.data.name},
        journal=journal,
        environment=_environment(restored),
        right=right,
        wrong=wrong,
        target_layer=target_layer,
        track=track,
    )


def report_on(
    network: nn.Module,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    samples: Split,
    answers: Answers,
    *,
    title: str,
    subtitle: str = "",
    settings: Mapping[str, Any] | None = None,
    journal: Sequence[Mapping[str, Any]] = (),
    environment: Mapping[str, str] | None = None,
    right: int = 10,
    wrong: int = 9,
    target_layer: str | None = None,
    track: Track = silent,
) -> ReportData:
    """Gathers the report of any network; it is left as it was.

    A network without maps (an MLP) gets a report without maps.

    Args:
        network: Returns logits [N, K].
        preprocessing: From decoded pixels to its input.
        classes: K names.
        samples: The split that `answers` belong to.
        answers: Logits and labels in the split's order.
        title: The heading.
        subtitle: A line below it.
        settings: How it was trained.
        journal: One row per epoch.
        environment: Versions and machine.
        right: How many recognised pictures to explain.
        wrong: How many of the most confident mistakes to explain.
        target_layer: Where to read class activation maps; the default of the network if None.
        track: Shows progress.
    """
    table = layer_table(network, preprocessing.input_shape)
    scores = class_scores(answers, classes)
    recognised, mistaken = telling_samples(answers, right=right, wrong=wrong)
    target = _target(network, preprocessing, target_layer)
    views: list[SampleView] = []
    features: tuple[FeatureMaps, ...] = ()
    feature_picture: Pixels | None = None
    for index in track([*mistaken, *recognised], "explaining pictures", len(recognised) + len(mistaken)):
        views.append(_view(network, preprocessing, classes, samples, answers, index, target))
    shown = [*recognised, *mistaken]
    if target is not None and shown:
        pictures = [_picture(samples, preprocessing, index) for index in shown]
        features = feature_maps(network, _inputs(preprocessing, pictures))
        feature_picture = pictures[0]
    return ReportData(
        title=title,
        subtitle=subtitle,
        headline={
            f"{samples.name} accuracy": f"{scores.accuracy:.1%}",
            "pictures": f"{scores.num_samples:,}",
            "classes": f"{len(classes):,}",
            "parameters": count(table.totals.parameters),
            "MACs per picture": count(table.totals.macs),
            "weights": byte_count(table.totals.stored_bytes),
        },
        settings=settings or {},
        journal=journal,
        layers=table,
        kernels=first_kernels(network),
        features=features,
        feature_picture=feature_picture,
        target_layer=None if target is None else target.name,
        samples=tuple(views),
        histograms=weight_histograms(network),
        scores=scores,
        split=samples.name,
        environment=environment or {},
    )


def _target(network: nn.Module, preprocessing: Preprocessing, name: str | None) -> TargetLayer | None:
    try:
        return find_target_layer(network, preprocessing.input_shape, name)
    except NetworkError:
        if name is not None:
            raise
        return None


def _picture(samples: Split, preprocessing: Preprocessing, index: int) -> Pixels:
    image = samples.image(index)
    return image if samples.prepared else preprocessing.picture(image)


def _inputs(preprocessing: Preprocessing, pictures: Sequence[Pixels]) -> Tensor:
    return torch.from_numpy(preprocessing.normalise(np.stack(pictures)))


def _view(
    network: nn.Module,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    samples: Split,
    answers: Answers,
    index: int,
    target: TargetLayer | None,
) -> SampleView:
    """One picture with the map of the predicted class, and of the right class where that is another."""
    picture = _picture(samples, preprocessing, index)
    probabilities = answers.logits[index].softmax(0)
    truth, top = int(answers.labels[index]), int(probabilities.argmax())
    asked = [top] if top == truth else [top, truth]
    large = fitted(picture, PICTURE_SIDE)
    explanations = []
    for label in asked:
        drawn = None
        if target is not None:
            activation = grad_cam(network, _inputs(preprocessing, [picture]), target, label)
            if bool(activation.has_evidence[0]):
                drawn = overlay(large, activation.maps[0].cpu().numpy())
        explanations.append(Explanation(classes[label], float(probabilities[label]), drawn))
    return SampleView(picture, classes[truth], tuple(explanations))


def _environment(restored: Restored) -> dict[str, str]:
    environment = restored.manifest.environment
    found = {"platform": environment.platform, "device": environment.device, "threads": str(environment.threads)}
    if environment.commit:
        found["commit"] = environment.commit
    return found | dict(sorted(environment.versions.items()))
