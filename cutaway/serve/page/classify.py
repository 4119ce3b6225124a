"""The tab for one picture: its classes, what the network saw, and where it looked for one class or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from cutaway.errors import CutawayError
from cutaway.images import decode
from cutaway.serve.classifier import TOP_CLASS, Prediction
from cutaway.serve.page import figures
from cutaway.serve.page.asking import Asking, failure, toast
from cutaway.serve.page.gallery import Gallery, show_gallery, verdict
from cutaway.serve.page.words import unique_names
from cutaway.serve.page_mount import STATIC, guarded, uploaded

NUM_SHOWN = 5

SECOND_CLASS = -2
"""As the class to compare with: whichever is the second most probable."""
NO_CLASS = -3
"""As the class to compare with: none."""

_PLACEHOLDER = "Drop a picture here\nor click to choose one"


def classify_tab(asking: Asking, gallery: Gallery) -> gr.Image:
    """Creates the tab's components, called inside the page's context, and gives that of the picture."""
    classifier = asking.classifier
    explains, names = classifier.metadata.explains, unique_names(classifier.classes)
    choices = [(name, index) for index, name in enumerate(names)]
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
            gr.HTML(
                figures.hint(),
                js_on_load=(STATIC / "paste.js").read_text(encoding="utf-8"),
                elem_id="hint",
            )
            if gallery:
                show_gallery(asking, gallery, picture)
        with gr.Column(min_width=280):
            # Where there are heat-maps, what is said of them names the top class to a screen reader.
            label = gr.HTML(
                figures.no_classes(),
                js_on_load=None if explains else 'element.setAttribute("aria-live", "polite");',
                elem_id="label",
            )
            seen = gr.HTML(figures.nothing_seen(), elem_id="seen")
    with gr.Column(visible=explains, elem_id="why"):
        gr.HTML(figures.how_to_read(classifier.metadata), elem_id="how-to-read")
        with gr.Row(elem_id="choices"):
            chosen = guarded(gr.Dropdown)(
                choices=[("The top class", TOP_CLASS), *choices],
                value=TOP_CLASS,
                label="Explain which class?",
                min_width=240,
                elem_id="class-to-explain",
            )
            compared = guarded(gr.Dropdown)(
                choices=[("Compare with no other", NO_CLASS), ("The second most probable", SECOND_CLASS), *choices],
                value=NO_CLASS,
                label="And why not another?",
                min_width=240,
                elem_id="class-to-compare",
            )
        explanation = gr.HTML(
            figures.no_explanation(),
            js_on_load=(STATIC / "explanation.js").read_text(encoding="utf-8"),
            elem_id="explanation",
        )

    blank: tuple[Any, ...] = (figures.no_classes(), figures.no_explanation(), figures.nothing_seen())

    async def classify(path: Path | None, class_index: int | None, other_index: int | None) -> tuple[Any, ...]:
        if path is None:
            return blank
        target = TOP_CLASS if class_index is None else int(class_index)
        other = NO_CLASS if other_index is None else int(other_index)
        try:
            return await asking.in_turn(_answer, asking, gallery, path, target, other)
        except CutawayError as error:
            toast(error)
            return figures.no_classes(), figures.no_explanation(), failure(error)

    for trigger in (picture.change, chosen.change, compared.change):
        trigger(
            classify,
            inputs=[picture, chosen, compared],
            outputs=[label, explanation, seen],
            concurrency_limit=None,
            show_progress="minimal",
            show_progress_on=[label],
            api_visibility="private",
            trigger_mode="always_last",
        )
    component: gr.Image = picture
    return component


def _answer(asking: Asking, gallery: Gallery, path: Path, target: int, other: int) -> tuple[Any, ...]:
    classifier = asking.classifier
    image = decode(path, limits=asking.limits)
    (prediction,) = classifier([image], top_k=NUM_SHOWN, class_index=target)
    predictions = [prediction]
    if classifier.metadata.explains and (index := _compared(prediction, other)) is not None:
        predictions += classifier([image], class_index=index)
    return (
        figures.most_probable(prediction, unique_names(classifier.classes)),
        figures.explanation(predictions, image, classifier.metadata.preprocessing),
        verdict(gallery.example(path), prediction) + figures.seen(prediction, image, classifier.device),
    )


def _compared(prediction: Prediction, other: int) -> int | None:
    """The class to compare with; None where there is none."""
    if other == SECOND_CLASS:
        return prediction.top[1].index if len(prediction.top) > 1 else None
    return None if other == NO_CLASS else other


def _path(self: Any, payload: Any) -> Path | None:
    """Stands in for `gr.Image.preprocess`, which opens files itself: hands on the uploaded file, unopened."""
    return None if payload is None else uploaded(payload.path)
