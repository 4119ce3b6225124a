"""Sections on how well the network tells the classes apart: confusion, calibration, the map of its features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cutaway.errors import CutawayError
from cutaway.inspect.calibration import measure_calibration
from cutaway.inspect.calibration_figures import draw_calibration
from cutaway.inspect.canvas import pixels
from cutaway.inspect.classwise import Confusion
from cutaway.inspect.embedding import embed, penultimate_features
from cutaway.inspect.embedding_figures import draw_embedding
from cutaway.inspect.report.subject import Subject
from cutaway.preprocessing.spec import Pixels

MOST_CONFUSED, MOST_PAIRS, MOST_EXAMPLES, MOST_POINTS = 24, 8, 6, 1500


@dataclass(frozen=True)
class Mistakes:
    """Two classes that are taken for each other, with examples.

    Attributes:
        pair: Who is taken for whom, and how often.
        examples: Pictures as the network saw them and the probability of its wrong answer, the surest first.
    """

    pair: Confusion
    examples: list[tuple[Pixels, float]]


def gather_scores(subject: Subject) -> Mapping[str, Any]:
    """The confusion matrix, the most frequent mistakes with examples, and every class."""
    scores = subject.scores
    return {
        "scores": scores,
        "split": subject.samples.name,
        "confused": scores.most_confused(MOST_CONFUSED),
        "confusions": [_with_examples(subject, pair) for pair in scores.top_confusions(MOST_PAIRS)],
    }


def gather_calibration(subject: Subject) -> Mapping[str, Any] | None:
    """Whether the network is as sure as it is right; left out where its answers are no numbers."""
    if not bool(subject.answers.logits.isfinite().all()):
        return None
    calibration = measure_calibration(subject.answers)
    return {"calibration": calibration, "figure": pixels(draw_calibration(calibration))}


def gather_embedding(subject: Subject) -> Mapping[str, Any] | None:
    """The split's pictures by the features that the last layer takes; left out where there is no such map."""
    try:
        features = penultimate_features(subject.network, subject.samples, subject.preprocessing, track=subject.track)
        found = embed(features, "tsne", limit=MOST_POINTS)
    except CutawayError:
        return None  # a network without a last layer of its own, or too few pictures
    return {"embedding": found, "figure": pixels(draw_embedding(found, features, subject.scores))}


def _with_examples(subject: Subject, pair: Confusion) -> Mistakes:
    truth, taken = subject.classes.index(pair.truth), subject.classes.index(pair.prediction)
    probabilities = subject.answers.logits.cpu().softmax(1)
    is_such = (subject.answers.labels.cpu() == truth) & (probabilities.argmax(1) == taken)
    indices = is_such.nonzero()[:, 0]
    surest = indices[probabilities[indices, taken].argsort(descending=True, stable=True)][:MOST_EXAMPLES]
    examples = [(subject.picture(int(index)), float(probabilities[index, taken])) for index in surest]
    return Mistakes(pair, examples)
