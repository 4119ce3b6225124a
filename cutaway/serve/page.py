"""The page: one picture in, its classes and where the network looked out. Made with Gradio from the ONNX file alone."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from cutaway.errors import CutawayError
from cutaway.images import Limits, decode
from cutaway.serve import page_parts
from cutaway.serve.classifier import TOP_CLASS, Classifier
from cutaway.serve.page_mount import STATIC, guarded, uploaded
from cutaway.serve.slots import Slots, in_thread

__all__ = ["Tab", "build"]

NUM_SHOWN = 5

_PLACEHOLDER = "Drop a picture here\nor click to choose one"


@dataclass(frozen=True)
class Tab:
    """A further tab of the page.

    Attributes:
        title: What its tab says.
        fill: Creates its components; called inside the page's context.
    """

    title: str
    fill: Callable[[], None]


def build(
    classifier: Classifier, tabs: Sequence[Tab] = (), *, slots: Slots | None = None, limits: Limits | None = None
) -> gr.Blocks:
    """The page, not yet mounted or launched.

    Args:
        classifier: What answers.
        tabs: Shown beside the first tab; without any there are no tabs.
        slots: Bounds how many pictures are worked on at once; shared with the API.
        limits: Of one picture.
    """
    slots = slots or Slots()
    limits = limits or Limits()
    with gr.Blocks(
        title=f"cutaway · {classifier.metadata.network}", analytics_enabled=False, delete_cache=(3600, 3600)
    ) as page:
        gr.HTML(page_parts.header(classifier), elem_id="header")
        if not tabs:
            _classify_tab(classifier, slots, limits)
        else:
            with gr.Tabs():
                with gr.Tab("Classify"):
                    _classify_tab(classifier, slots, limits)
                for tab in tabs:
                    with gr.Tab(tab.title):
                        tab.fill()
    blocks: gr.Blocks = page
    return blocks


def _classify_tab(classifier: Classifier, slots: Slots, limits: Limits) -> None:
    with gr.Row(equal_height=False, elem_id="answer"):
        with gr.Column(min_width=280):
            picture = guarded(gr.Image, preprocess=_path)(
                label="Picture",
                sources=["upload", "webcam", "clipboard"],
                type="filepath",
                height=340,
                buttons=["fullscreen"],
                placeholder=_PLACEHOLDER,
                webcam_options=gr.WebcamOptions(mirror=False),
                elem_id="input-image",
            )
            gr.HTML(page_parts.hint(), elem_id="hint")
        with gr.Column(min_width=280):
            label = gr.Label(
                label="Most probable classes", num_top_classes=min(NUM_SHOWN, len(classifier.classes)), elem_id="label"
            )
            seen = gr.HTML(page_parts.nothing_seen(), elem_id="seen")
    with gr.Row(equal_height=False, elem_id="why", visible=classifier.metadata.explains):
        with gr.Column(min_width=280):
            explanation = gr.HTML(
                page_parts.no_explanation(),
                js_on_load=(STATIC / "explanation.js").read_text(encoding="utf-8"),
                elem_id="explanation",
            )
        with gr.Column(min_width=280):
            chosen = guarded(gr.Dropdown)(
                choices=[("The top class", TOP_CLASS), *((name, i) for i, name in enumerate(classifier.classes))],
                value=TOP_CLASS,
                label="Explain which class?",
                elem_id="class-to-explain",
            )
            gr.HTML(page_parts.how_to_read(classifier), elem_id="how-to-read")
    with gr.Accordion("About this model", open=False, elem_id="about"):
        gr.HTML(page_parts.facts(classifier))

    blank: tuple[Any, ...] = ({}, page_parts.no_explanation(), page_parts.nothing_seen())

    async def classify(path: Path | None, class_index: int | None) -> tuple[Any, ...]:
        if path is None:
            return blank
        target = TOP_CLASS if class_index is None else int(class_index)
        try:
            async with slots.place():
                return await in_thread(_answer, classifier, path, target, limits)
        except CutawayError as error:
            _toast(error)
            return blank

    for trigger in (picture.change, chosen.change):
        trigger(
            classify,
            inputs=[picture, chosen],
            outputs=[label, explanation, seen],
            concurrency_limit=None,
            show_progress="minimal",
            show_progress_on=[label],
            api_visibility="private",
            trigger_mode="always_last",
        )


def _answer(classifier: Classifier, path: Path, target: int, limits: Limits) -> tuple[Any, ...]:
    image = decode(path, limits=limits)
    (prediction,) = classifier([image], top_k=NUM_SHOWN, class_index=target)
    names = page_parts.unique_names(classifier.classes)
    return (
        {names[score.index]: score.probability for score in prediction.top},
        page_parts.explanation(prediction, image, classifier.metadata.preprocessing),
        page_parts.seen(prediction, image, classifier.device),
    )


def _path(self: Any, payload: Any) -> Path | None:
    """Stands in for `gr.Image.preprocess`, which opens files itself: hands on the uploaded file, unopened."""
    return None if payload is None else uploaded(payload.path)


def _toast(error: CutawayError) -> None:
    """Shows the error in words. Not by raising it: then the last picture's answer would stay beside the new picture."""
    gr.Warning(html.escape(str(error)))  # the browser takes it for HTML
