"""What a network came to class by class, as tables that TensorBoard shows."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from cutaway.metrics import Metrics

# More columns than this nobody scrolls through.
LARGEST_CONFUSION = 30
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")


def class_table(measured: Metrics, classes: Sequence[str]) -> str:
    """A row a class as Markdown: its samples, precision, recall, F1 and AUROC."""
    figures = (measured.precision, measured.recall, measured.f1, measured.class_auroc)
    rows = [
        [_plain(name), str(measured.support[at]), *(_figure(of[at]) for of in figures)]
        for at, name in enumerate(classes)
    ]
    return _markdown(["class", "samples", "precision", "recall", "F1", "AUROC"], rows)


def confusion_table(measured: Metrics, classes: Sequence[str]) -> str | None:
    """The confusion matrix as Markdown, rows the truth and columns the prediction; None of more than 30 classes."""
    if measured.confusion is None or len(classes) > LARGEST_CONFUSION:
        return None
    names = [_plain(name) for name in classes]
    rows = [[name, *map(str, row)] for name, row in zip(names, measured.confusion.tolist(), strict=True)]
    return _markdown(["truth, then taken for", *names], rows)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(name: str) -> str:
    """A class's name with nothing in it that Markdown takes for markup."""
    return _MARKUP.sub(r"\\\1", " ".join(name.split()))


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
