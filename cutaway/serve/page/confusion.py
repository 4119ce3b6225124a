"""The confusion matrix as HTML: a table where it can be read, the classes most often confused where it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from cutaway.serve.page.words import class_name, counted, percent, unique_names

_MOST_COLUMNS = 20
_MOST_CONFUSIONS = 10


def confusion(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    """What the network took for what, on pictures whose class is known.

    Args:
        matrix: Counts [K][K], rows are the truth.
        classes: Label names in output order.
    """
    names = unique_names(classes)
    total, right = sum(map(sum, matrix)), sum(row[index] for index, row in enumerate(matrix))
    if not total:
        return '<p class="cw-note">It was measured on no pictures.</p>'
    said = f"{right} of {counted(total, 'picture', 'pictures')} right ({percent(right / total)})."
    confused = _confusions(matrix, names)
    if len(names) > _MOST_COLUMNS:
        return f"<p>{said}</p>{confused}"
    return (
        f"<p>{said} Rows are the true classes, columns the network's answers.</p>"
        f'<div class="cw-beside">{_table(matrix, names)}{confused}</div>'
    )


def _table(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    head = "".join(f'<th scope="col"><span title="{escape(name)}">{class_name(name)}</span></th>' for name in names)
    rows = []
    for truth, (name, row) in enumerate(zip(names, matrix, strict=True)):
        pictures = sum(row) or 1
        cells = "".join(
            f'<td{" class=cw-right" if truth == answer else ""} style="--cw-share: {count / pictures:.3f}">'
            f"{count or ''}</td>"
            for answer, count in enumerate(row)
        )
        rows.append(f'<tr><th scope="row" title="{escape(name)}">{class_name(name)}</th>{cells}</tr>')
    return (
        '<div class="cw-scroll" tabindex="0" role="region" aria-label="Confusion matrix">'
        '<table class="cw-matrix"><caption class="cw-hidden">Confusion matrix: rows are the true classes, columns the '
        f"network's answers</caption><thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        "</div>"
    )


def _confusions(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """The mistakes made most often, in words."""
    found = [
        (count, truth, answer)
        for truth, row in enumerate(matrix)
        for answer, count in enumerate(row)
        if count and truth != answer
    ]
    if not found:
        return ""
    found.sort(key=lambda each: (-each[0], each[1:]))
    items = "".join(
        f"<li>{class_name(names[truth])} taken for {class_name(names[answer])}: {count} of {sum(matrix[truth])}</li>"
        for count, truth, answer in found[:_MOST_CONFUSIONS]
    )
    return f'<div><h3 class="cw-subheading">Most often confused</h3><ol class="cw-list">{items}</ol></div>'
