"""The answers to many pictures as an HTML table and as CSV."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from cutaway.serve.classifier import Score
from cutaway.serve.page.words import DEVICES, class_name, counted, duration, percent

_LONGEST_NAME = 200
_FORMULA = ("=", "+", "-", "@")
_COLUMNS = ["picture", "label", "probability", "second", "second_probability", "third", "third_probability", "error"]


@dataclass(frozen=True)
class Row:
    """What is told of one picture.

    Attributes:
        name: Of its file.
        thumbnail: As a data URI; empty where it cannot be decoded.
        top: The most probable classes, best first.
        error: Why there are none, in words; empty where there are.
    """

    name: str
    thumbnail: str = ""
    top: tuple[Score, ...] = ()
    error: str = ""


def nothing() -> str:
    """In place of the table, before there are pictures."""
    return '<div class="cw-empty">A table of all pictures and their classes will be shown here.</div>'


def table(rows: Sequence[Row], total: int, seconds: float, device: str, *, left_out: int = 0) -> str:
    """The table as far as it is.

    Args:
        rows: Of the pictures that were classified so far, in their order.
        total: How many there will be.
        seconds: What it took so far, with decoding and waiting.
        device: `cpu` or `cuda`.
        left_out: How many pictures were too many.
    """
    body = "".join(_line(row) for row in rows)
    return (
        f'{_progress(rows, total, seconds, device, left_out)}<table class="cw-table">'
        '<caption class="cw-hidden">Pictures and their most probable classes</caption><thead><tr>'
        '<th scope="col">Picture</th><th scope="col">Class</th><th scope="col">Probability</th>'
        f'<th scope="col" class="cw-wide">Then</th></tr></thead><tbody>{body}</tbody></table>'
    )


def as_csv(rows: Sequence[Row]) -> str:
    """A line a picture, with a header; nothing in it is taken for a formula by a spreadsheet."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        scores: list[object] = []
        for score in row.top:
            scores += [_plain(score.label), f"{score.probability:.6g}"]
        scores += [""] * (len(_COLUMNS) - 2 - len(scores))
        writer.writerow([_plain(row.name), *scores, _plain(row.error)])
    return text.getvalue()


def _progress(rows: Sequence[Row], total: int, seconds: float, device: str, left_out: int) -> str:
    if len(rows) < total:
        return (
            f'<p role="status"><label>{len(rows)} of {total} pictures <progress class="cw-progress" max="{total}" '
            f'value="{len(rows)}"></progress></label></p>'
        )
    failed = sum(not row.top for row in rows)
    said = f"{counted(total, 'picture', 'pictures')} in {duration(seconds * 1000)} on {DEVICES[device]}"
    said += f", {failed} of them could not be classified." if failed else "."
    if left_out:
        said += f" {counted(left_out, 'more was', 'more were')} left out: {total} are taken at once."
    encoded = base64.b64encode(as_csv(rows).encode()).decode()
    return (
        f'<p role="status" class="cw-done"><span>{said}</span> <a class="cw-download" download="predictions.csv" '
        f'href="data:text/csv;charset=utf-8;base64,{encoded}">Download as CSV</a></p>'
    )


def _line(row: Row) -> str:
    name = f'<span class="cw-name">{escape(row.name[:_LONGEST_NAME])}</span>'
    if not row.top:
        return (
            f'<tr class="cw-failed"><th scope="row">{name}</th><td colspan="2">{escape(row.error)}</td>'
            '<td class="cw-wide"></td></tr>'
        )
    best, *others = row.top
    then = ", ".join(f"{class_name(score.label)} {percent(score.probability)}" for score in others)
    return (
        f'<tr><th scope="row"><div class="cw-file"><img class="cw-pixelated" src="{row.thumbnail}" alt="">{name}</div>'
        "</th>"
        f"<td>{class_name(best.label)}</td>"
        f'<td><span class="cw-bar" style="--cw-share: {best.probability:.3f}"></span>{percent(best.probability)}</td>'
        f'<td class="cw-wide">{then}</td></tr>'
    )


def _plain(text: str) -> str:
    """Text in one line that no spreadsheet takes for a formula."""
    line = " ".join(text.split())
    return f"'{line}" if line.startswith(_FORMULA) else line
