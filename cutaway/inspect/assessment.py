"""A network judged over a split, all at once: figures, classes, confidence, mistakes, parts of the data, a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from cutaway.datasets import Split
from cutaway.errors import InspectionError, NetworkError
from cutaway.evaluation import Evaluation, evaluate
from cutaway.inspect.calibration import Calibration, measure_calibration
from cutaway.inspect.classwise import ClassScores, class_scores
from cutaway.inspect.embedding import FEWEST_SAMPLES, Embedding, Features, Method, embed, penultimate_features
from cutaway.inspect.mistakes import ConfusionExamples, Mistake, confident_mistakes, confusion_examples
from cutaway.inspect.slices import Slices, column_of, slice_scores
from cutaway.metrics import Metrics, measure
from cutaway.preprocessing import Preprocessing
from cutaway.progress import Track, silent


@dataclass(frozen=True, eq=False)
class Assessment:
    """What a network's answers over a split come to.

    Attributes:
        split: The samples, as their pictures are shown.
        answers: The network's.
        metrics: Loss, accuracy and the other scalars.
        scores: By class, with the confusion matrix.
        calibration: Its confidence against how often it is right.
        confusions: The largest, with pictures.
        mistakes: Those that it is surest of, with heat-maps where it has some.
        slices: One for each column asked for.
        embedding: The map; None where none was asked for, or the network has no last layer to read it at.
        features: What the map was made of.
    """

    split: Split
    answers: Evaluation
    metrics: Metrics
    scores: ClassScores
    calibration: Calibration
    confusions: tuple[ConfusionExamples, ...]
    mistakes: tuple[Mistake, ...]
    slices: tuple[Slices, ...]
    embedding: Embedding | None
    features: Features | None


def assess(
    network: nn.Module,
    split: Split,
    preprocessing: Preprocessing,
    classes: Sequence[str],
    *,
    shown: Split | None = None,
    slice_by: Sequence[str] = (),
    embedding: Method | None = "pca",
    target_layer: str | None = None,
    confusions: int = 8,
    mistakes: int = 12,
    device: torch.device | str = "cpu",
    batch_size: int = 256,
    workers: int = 0,
    track: Track = silent,
) -> Assessment:
    """Runs a network over a split once, and judges its answers; the network is left as it was.

    Args:
        network: Returns logits [N, K], on `device`.
        split: The samples.
        preprocessing: From decoded pixels to the network's input.
        classes: K names.
        shown: The same samples before preprocessing, where `split` lies in memory after it.
        slice_by: Columns of the split: `folder`, or those of a CSV list.
        embedding: How the features are brought into the plane; None for no map.
        target_layer: Where to read heat-maps; the network's default if None.
        confusions: How many confusions come with pictures.
        mistakes: How many of the surest mistakes are explained.
        device: Where the network runs.
        batch_size: Samples at a time.
        workers: Processes that decode files.
        track: Shows progress.

    Raises:
        InspectionError: The split is empty, has no such column, or the answers are no numbers.
        NetworkError: There is no target layer of the name asked for.

    Example:
        >>> found = assess(network, dataset.test, preprocessing, dataset.classes, slice_by=["folder"])
        >>> found.metrics.accuracy, found.calibration.ece, found.scores.top_confusions(3)
    """
    if len(split) == 0:
        raise InspectionError(f"The split {split.name!r} is empty.", hint="Evaluate another split.")
    columns = {column: column_of(split, column) for column in slice_by}
    features: Features | None = None
    if embedding is not None and len(split) >= FEWEST_SAMPLES:
        try:
            features = penultimate_features(
                network, split, preprocessing, device=device, batch_size=batch_size, workers=workers, track=track
            )
        except NetworkError:
            # Whatever else keeps the network from running is told by the evaluation.
            features = None
    if features is None:
        answers = evaluate(
            network, split, preprocessing, device=device, batch_size=batch_size, workers=workers, track=track
        )
    else:
        answers = features.answers
    calibration = measure_calibration(answers)
    scores = class_scores(answers, classes)
    seen = shown or split
    return Assessment(
        split=seen,
        answers=answers,
        metrics=measure(answers),
        scores=scores,
        calibration=calibration,
        confusions=confusion_examples(answers, scores, confusions=confusions),
        mistakes=confident_mistakes(
            network, seen, preprocessing, answers, limit=mistakes, target_layer=target_layer, track=track
        ),
        slices=tuple(slice_scores(answers, values, column=column) for column, values in columns.items()),
        embedding=None if features is None or embedding is None else embed(features, embedding),
        features=features,
    )
