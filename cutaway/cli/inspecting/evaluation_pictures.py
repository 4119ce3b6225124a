"""The figures that `cutaway evaluate` writes."""

from __future__ import annotations

from collections.abc import Iterator

from cutaway.cli.inspecting.evaluated import Against, Evaluated
from cutaway.inspect.calibration_figures import draw_calibration
from cutaway.inspect.canvas import png
from cutaway.inspect.confusion_figures import draw_confusion
from cutaway.inspect.embedding_figures import draw_embedding
from cutaway.inspect.flip_figures import draw_flips
from cutaway.inspect.mistakes import seen_picture
from cutaway.inspect.sheets import draw_confusions, draw_mistakes
from cutaway.inspect.slice_figures import draw_slices
from cutaway.preprocessing.spec import Pixels


def figures(evaluated: Evaluated) -> Iterator[tuple[str, bytes]]:
    """Each figure's file name and its PNG, drawn as it is asked for."""
    found = evaluated.assessment
    scores = found.scores
    yield "confusion.png", png(draw_confusion(scores))
    yield "confusion-recall.png", png(draw_confusion(scores, figures="truth"))
    yield "confusion-precision.png", png(draw_confusion(scores, figures="prediction"))
    yield "calibration.png", png(draw_calibration(found.calibration))
    if found.mistakes:
        total = int((found.answers.predictions != found.answers.labels).sum())
        shown = len(found.mistakes)
        title = f"the {shown} most confident of {total:,} mistakes" if shown < total else f"all mistakes: {total}"
        yield "mistakes.png", png(draw_mistakes(found.mistakes, scores.classes, title=title))
        pictures = [[_picture(evaluated, index) for index in example.indices] for example in found.confusions]
        title = "the largest confusions, with the pictures that the network is surest of"
        yield "confusions.png", png(draw_confusions(found.confusions, pictures, scores.classes, title=title))
    if found.embedding is not None and found.features is not None:
        yield f"embedding-{found.embedding.method}.png", png(draw_embedding(found.embedding, found.features, scores))
    for number, part in enumerate(found.slices, start=1):
        # A column may have any name; the file says which one it is of.
        yield f"slices-{number}.png", png(draw_slices(part))
    if evaluated.against is not None:
        yield from _flips(evaluated, evaluated.against)


def _flips(evaluated: Evaluated, against: Against) -> Iterator[tuple[str, bytes]]:
    found = evaluated.assessment
    kinds = {
        "broken": (against.comparison.broken, "recognised by the other one, and not by this one"),
        "mended": (against.comparison.mended, "recognised by this one, and not by the other one"),
    }
    for name, (indices, said) in kinds.items():
        if indices:
            figure = draw_flips(
                indices,
                found.answers,
                against.answers,
                found.scores.classes,
                lambda index: _picture(evaluated, index),
                said=said,
            )
            yield f"{name}.png", png(figure)


def _picture(evaluated: Evaluated, index: int) -> Pixels:
    return seen_picture(evaluated.assessment.split, evaluated.preprocessing, index)
