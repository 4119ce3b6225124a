"""What the commands show: lines, tables and progress bars for people, JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any, TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from cutaway.cli import is_harmless, printable
from cutaway.progress import Telling

T = TypeVar("T")

_SHOWN_AFTER_S = 1.0
_TOLD_EVERY_S = 0.2
# In letters.
_BESIDE_BAR = 82
_SHORTEST_BAR = 8
_NARROWEST_WORDS = 4
_GAP = 2


def console() -> Console:
    """Standard output, with nothing in the text taken for markup."""
    width = None if sys.stdout.isatty() else 200
    return Console(markup=False, highlight=False, soft_wrap=True, width=width)


def say(line: str) -> None:
    """Prints one line."""
    print(printable(line), flush=True)


def say_json(value: object) -> None:
    """Prints a value as JSON that every parser reads and that steers no terminal."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    print("".join(map(_in_json, text)), flush=True)


def say_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None) -> None:
    """Prints a table; numbers stand right, and whole also where words are folded to fit the terminal."""
    rows = [list(row) for row in rows]
    screen = console()
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    heads = [one_line(column) for column in columns]
    numeric = [_are_numbers([row[at] for row in rows]) for at in range(len(columns))]
    cells = [max((cell_len(_cell(row[at])) for row in rows), default=0) for at in range(len(columns))]
    widths = _widths([cell_len(head) for head in heads], cells, numeric, screen.width - _GAP * (len(columns) - 1))
    for head, is_numeric, width in zip(heads, numeric, widths, strict=True):
        table.add_column(head, justify="right" if is_numeric else "left", overflow="fold", width=width)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    screen.width = max(screen.width, sum(widths) + _GAP * (len(columns) - 1))
    screen.print(table)


def bars(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """A `Track` that draws a bar on stderr once the work has taken a second; nothing where that is no terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    if total is None and isinstance(items, Sized):
        total = len(items)
    screen = Console(stderr=True)
    telling = items if isinstance(items, Telling) else None
    progress = Progress(
        *_columns(screen.width, with_status=telling is not None),
        console=screen,
        transient=True,
        refresh_per_second=1 / _TOLD_EVERY_S,
    )
    task = progress.add_task(printable(description), total=total, status="")
    began = told = time.monotonic()
    try:
        for done, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            if now - told < _TOLD_EVERY_S:
                continue
            told = now
            if not progress.live.is_started and now - began > _SHOWN_AFTER_S:
                progress.start()
            progress.update(task, completed=done)
            if telling is not None and progress.live.is_started:
                progress.update(task, status=printable(telling.status()))
    finally:
        progress.stop()


def as_percent(share: float | None) -> str:
    """`91.3 %`."""
    return "-" if share is None else f"{100 * share:.1f} %"


def as_bytes(count: int) -> str:
    """`3.1 MB`."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def without_nan(values: Mapping[str, float]) -> dict[str, float | str]:
    """Numbers as JSON can hold them: NaN and infinities become words."""
    return {name: value if abs(value) < float("inf") else str(value) for name, value in values.items()}


def one_line(text: str) -> str:
    """Printable text that cannot pass for another line."""
    return printable(text).replace("\n", "\N{REPLACEMENT CHARACTER}")


def formula_safe(text: str) -> str:
    """Text that no spreadsheet takes for a formula and no terminal for a command."""
    return one_line("'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text)


def _columns(width: int, *, with_status: bool) -> list[ProgressColumn]:
    """What a line of progress shows; a status takes its room from the bar."""
    bar = min(40, width - _BESIDE_BAR if with_status else width)
    status = TextColumn("{task.fields[status]}", markup=False, table_column=Column(no_wrap=True))
    return [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        *([BarColumn(bar)] if bar >= _SHORTEST_BAR else []),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        *([status] if with_status else []),
        TimeRemainingColumn(compact=with_status, table_column=Column(no_wrap=True)),
    ]


def _are_numbers(cells: Sequence[object]) -> bool:
    """Whether a column's cells are, with signs for none and for per cent."""
    own = [cell for cell in cells if cell != "-"]
    return bool(own) and all(
        isinstance(cell, int | float) or (isinstance(cell, str) and cell.endswith(" %")) for cell in own
    )


def _widths(heads: Sequence[int], cells: Sequence[int], numeric: Sequence[bool], room: int) -> list[int]:
    """How wide columns are: what they need where there is room; else numbers stay whole, and words are folded.

    Where there is no room for numbers either, lines are longer than the terminal: it cuts no figure in two unseen.
    """
    whole = [max(pair) for pair in zip(heads, cells, strict=True)]
    least = [
        cell if is_numeric else min(wide, _NARROWEST_WORDS)
        for cell, wide, is_numeric in zip(cells, whole, numeric, strict=True)
    ]
    if sum(least) > room:
        return whole
    widths = list(least)
    for _ in range(room - sum(least)):
        short = [at for at, width in enumerate(widths) if width < whole[at]]
        if short:
            widths[min(short, key=widths.__getitem__)] += 1
    return widths


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else one_line(str(value))


def _in_json(char: str) -> str:
    """A character of finished JSON, escaped where it does not just show; a line feed there is layout."""
    if "\ud800" <= char <= "\udfff":
        # Half of a pair, as in file names that are no UTF-8, is more than some parsers take.
        char = "\N{REPLACEMENT CHARACTER}"
    if char == "\n" or (is_harmless(char) and (char.isascii() or _stdout_takes(char))):
        return char
    return json.dumps(char)[1:-1]


def _stdout_takes(char: str) -> bool:
    try:
        char.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
