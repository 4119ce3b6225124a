"""Pictures that one network recognises and another one does not, as a sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from cutaway.inspect.classwise import Answers
from cutaway.inspect.sheets import Tile, class_text, draw_tiles
from cutaway.preprocessing.spec import Pixels

MOST_FLIPS = 24


def draw_flips(
    indices: Sequence[int],
    answers: Answers,
    theirs: Answers,
    classes: Sequence[str],
    picture: Callable[[int], Pixels],
    *,
    said: str,
) -> Figure:
    """The first of these samples, each with its class and with what either network takes it for.

    Args:
        indices: Samples, those to show first coming first.
        answers: This network's.
        theirs: The other one's, over the same samples and classes.
        classes: K names.
        picture: A sample as the network sees it: uint8 [h, w, 1 or 3].
        said: What the samples have in common, to stand behind `24 of 31 pictures`.
    """
    tiles = [
        Tile(
            (picture(index),),
            (
                f"is {class_text(classes, int(answers.labels[index]))}",
                f"other {_answer(theirs, classes, index)}",
                f"this {_answer(answers, classes, index)}",
            ),
        )
        for index in indices[:MOST_FLIPS]
    ]
    count = f"{len(indices):,}" if len(tiles) == len(indices) else f"{len(tiles)} of {len(indices):,}"
    return draw_tiles(tiles, title=f"{count} picture{'' if len(indices) == 1 else 's'} {said}")


def _answer(answers: Answers, classes: Sequence[str], index: int) -> str:
    logits = answers.logits[index]
    top = int(logits.argmax())
    return f"{float(logits.softmax(0)[top]):.0%}: {class_text(classes, top)}"
