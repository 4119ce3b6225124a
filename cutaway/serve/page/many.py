"""The tab for many pictures at once: a table that grows while they are classified, and the same as CSV."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from cutaway.errors import CutawayError
from cutaway.images import decode
from cutaway.preprocessing.spec import Pixels
from cutaway.serve.answers import data_uri
from cutaway.serve.page import many_table
from cutaway.serve.page.asking import Asking, toast
from cutaway.serve.page.many_table import Row
from cutaway.serve.page_mount import guarded, uploaded

MOST_PICTURES = 200
_AT_A_TIME = 8
_TOP_K = 3
_THUMBNAIL = 48


def many_tab(asking: Asking) -> None:
    """Creates the tab's components; called inside it."""
    files = guarded(gr.File, preprocess=_named_files)(
        label=f"Pictures, {MOST_PICTURES} at most",
        file_count="multiple",
        height=180,
        elem_id="many-files",
    )
    table = gr.HTML(many_table.nothing(), elem_id="many-table")

    async def classify(sent: Sequence[SentFile] | None) -> AsyncIterator[str]:
        if not sent:
            yield many_table.nothing()
            return
        try:
            device = asking.classifier.device
        except CutawayError as error:
            toast(error)
            yield many_table.nothing()
            return
        taken, rows, began = sent[:MOST_PICTURES], [], time.perf_counter()
        told: set[str] = set()
        for start in range(0, len(taken), _AT_A_TIME):
            chunk = taken[start : start + _AT_A_TIME]
            try:
                rows += await asking.in_turn(_rows, asking, chunk)
            except CutawayError as error:
                rows += [Row(each.name, error=str(error)) for each in chunk]
                if str(error) not in told:  # once, however many pictures it befell
                    told.add(str(error))
                    toast(error)
            seconds = time.perf_counter() - began
            yield many_table.table(rows, len(taken), seconds, device, left_out=len(sent) - len(taken))

    files.change(
        classify,
        inputs=[files],
        outputs=[table],
        concurrency_limit=None,
        show_progress="hidden",
        api_visibility="private",
        trigger_mode="always_last",
    )


@dataclass(frozen=True)
class SentFile:
    """One of the files that a browser sent.

    Attributes:
        name: On the visitor's machine.
        path: Here, where it was put for the page.
    """

    name: str
    path: str


def _named_files(self: Any, payload: Any) -> list[SentFile] | None:
    """Stands in for `gr.File.preprocess`, which copies files: hands on their names and places, unopened."""
    if payload is None:
        return None
    each = payload if isinstance(payload, gr.data_classes.ListFiles) else [payload]
    return [SentFile(file.orig_name or Path(file.path).name, file.path) for file in each]


def _rows(asking: Asking, chunk: Sequence[SentFile]) -> list[Row]:
    """Classifies what can be decoded in one run, and says of the others why they cannot."""
    found = [(each, *_decoded(asking, each)) for each in chunk]
    pictures = [pixels for _, pixels, _ in found if pixels is not None]
    predictions = iter(asking.classifier(pictures, top_k=_TOP_K, explain=False))
    return [
        Row(each.name, error=error)
        if pixels is None
        else Row(each.name, data_uri(_thumbnail(pixels)), next(predictions).top)
        for each, pixels, error in found
    ]


def _decoded(asking: Asking, sent: SentFile) -> tuple[Pixels | None, str]:
    """The picture, or why there is none."""
    try:
        return decode(uploaded(sent.path), limits=asking.limits), ""
    except CutawayError as error:
        return None, str(error)
    except gr.Error as error:  # it went, to make room for others
        return None, error.message


def _thumbnail(pixels: Pixels) -> Pixels:
    image = Image.fromarray(pixels)
    image.thumbnail((_THUMBNAIL * 2, _THUMBNAIL * 2))
    return np.asarray(image)
