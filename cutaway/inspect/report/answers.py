"""Sections on how well the network tells the classes apart: confusion, calibration, features, another network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cutaway.errors import CutawayError, InspectionError
from cutaway.inspect.calibration import measure_calibration
from cutaway.inspect.calibration_figures import draw_calibration
from cutaway.inspect.canvas import pixels
from cutaway.inspect.classwise import Confusion
from cutaway.inspect.comparison import compare_answers
from cutaway.inspect.embedding import embed, penultimate_features
from cutaway.inspect.embedding_figures import draw_embedding
from cutaway.inspect.flip_figures import draw_flips
from cutaway.inspect.report.subject import Subject
from cutaway.inspect.slice_figures import draw_slices
from cutaway.inspect.slices import Slices, column_of, slice_scores
from cutaway.preprocessing.spec import Pixels

MOST_CONFUSED, MOST_PAIRS, MOST_EXAMPLES, MOST_POINTS = 24, 8, 6, 1500
MOST_SLICES, FEWEST_IN_SLICE, MOST_COLUMNS = 24, 5, 4


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


def gather_slices(subject: Subject) -> Mapping[str, Any] | None:
    """How well it does on parts of the split: those asked for, or else by every column that makes a few."""
    if subject.slice_by is not None:
        found = [_sliced(subject, column) for column in subject.slice_by]
    else:
        found = [slices for column in subject.samples.columns for slices in _telling(subject, column)][:MOST_COLUMNS]
    return {"slices": found, "figures": [pixels(draw_slices(one)) for one in found]} if found else None


def gather_comparison(subject: Subject) -> Mapping[str, Any] | None:
    """Which answers are others than those of another network; left out where there is none."""
    other = subject.against
    if other is None:
        return None
    found = compare_answers(other.answers, subject.answers)
    kinds = (
        ("broken", found.broken, "recognised by the other one, and not by this one"),
        ("mended", found.mended, "recognised by this one, and not by the other one"),
    )
    return {
        "name": other.name,
        "learned": other.learned,
        "comparison": found,
        "figures": {
            kind: pixels(
                draw_flips(indices, subject.answers, other.answers, subject.classes, subject.picture, said=said)
            )
            for kind, indices, said in kinds
            if indices
        },
    }


def gather_embedding(subject: Subject) -> Mapping[str, Any] | None:
    """The split's pictures by the features that the last layer takes; left out where there is no such map."""
    try:
        features = penultimate_features(
            subject.network, subject.samples, subject.preprocessing, device=subject.device, track=subject.track
        )
        found = embed(features, "tsne", limit=MOST_POINTS)
    except CutawayError:
        return None  # a network without a last layer of its own, or too few pictures
    return {"embedding": found, "figure": pixels(draw_embedding(found, features, subject.scores))}


def _sliced(subject: Subject, column: str) -> Slices:
    return slice_scores(subject.answers, column_of(subject.samples, column), column=column)


def _telling(subject: Subject, column: str) -> list[Slices]:
    """The slices by a column, if they are few and large enough to look at unasked, and others than the classes."""
    try:
        found = _sliced(subject, column)
    except InspectionError:
        return []  # one value only, or too many words
    values, labels = column_of(subject.samples, column), subject.answers.labels.tolist()
    is_class = len(set(zip(values, labels, strict=True))) == len(set(values)) == len(set(labels))
    are_large = found.num_samples >= FEWEST_IN_SLICE * len(found.slices)
    return [found] if len(found.slices) <= MOST_SLICES and are_large and not is_class else []


def _with_examples(subject: Subject, pair: Confusion) -> Mistakes:
    truth, taken = subject.classes.index(pair.truth), subject.classes.index(pair.prediction)
    logits = subject.answers.logits.cpu()
    probabilities = logits.softmax(1)
    is_such = (subject.answers.labels.cpu() == truth) & (logits.argmax(1) == taken)
    indices = is_such.nonzero()[:, 0]
    surest = indices[probabilities[indices, taken].argsort(descending=True, stable=True)][:MOST_EXAMPLES]
    examples = [(subject.picture(int(index)), float(probabilities[index, taken])) for index in surest]
    return Mistakes(pair, examples)
