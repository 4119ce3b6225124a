"""The page as a whole: which tabs it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import gradio as gr

from cutaway.images import Limits
from cutaway.serve.classifier import Classifier
from cutaway.serve.examples import examples_of
from cutaway.serve.page.about import about
from cutaway.serve.page.asking import Asking
from cutaway.serve.page.classify import classify_tab
from cutaway.serve.page.feature_maps import feature_maps_tab
from cutaway.serve.page.gallery import Gallery
from cutaway.serve.page.many import many_tab
from cutaway.serve.page.words import counted
from cutaway.serve.page_mount import STATIC
from cutaway.serve.slots import Slots


@dataclass(frozen=True)
class Tab:
    """A further tab of the page.

    Attributes:
        title: What its tab says.
        fill: Creates its components; called inside the page's context.
    """

    title: str
    fill: Callable[[], object]


@dataclass(frozen=True)
class Link:
    """To the page of a model.

    Attributes:
        name: Of the model.
        path: Of its page.
        is_here: It is the page that the link stands on.
    """

    name: str
    path: str
    is_here: bool


def build(
    classifier: Classifier, tabs: Sequence[Tab] = (), *, slots: Slots | None = None, limits: Limits | None = None
) -> gr.Blocks:
    """The page, not yet mounted or launched.

    Args:
        classifier: What answers.
        tabs: Shown after the page's own.
        slots: Bounds how many pictures are worked on at once; shared with the API.
        limits: Of one picture.

    Raises:
        ServingError: The example pictures beside the classifier's file are damaged.
    """
    return build_asking(Asking(classifier, slots or Slots(), limits or Limits()), tabs)


def build_asking(asking: Asking, tabs: Sequence[Tab] = (), others: Sequence[Link] = ()) -> gr.Blocks:
    """The page, not yet mounted or launched.

    Args:
        asking: What answers, and within which bounds.
        tabs: Shown after the page's own.
        others: The pages of all models of the server, where there are several.

    Raises:
        ServingError: The example pictures beside the classifier's file are damaged.
    """
    classifier = asking.classifier
    gallery = Gallery(examples_of(classifier.path, classifier.classes))
    name = next((each.name for each in others if each.is_here), classifier.metadata.network)
    with gr.Blocks(title=f"cutaway · {name}", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        if others:
            gr.HTML(links(others), elem_id="models")
        gr.HTML(
            header(classifier),
            js_on_load=(STATIC / "replaced.js").read_text(encoding="utf-8"),
            elem_id="header",
        )
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Classify", id="classify"):
                picture = classify_tab(asking, gallery)
            with gr.Tab("Many pictures", id="many"):
                many_tab(asking)
            if classifier.metadata.features:
                with gr.Tab("Feature maps", id="feature-maps-tab") as tab:
                    feature_maps_tab(asking, tab, picture)
            with gr.Tab("About", id="about"):
                gr.HTML(about(classifier), elem_id="about")
            for further in tabs:
                with gr.Tab(further.title):
                    further.fill()
    blocks: gr.Blocks = page
    return blocks


def links(others: Sequence[Link]) -> str:
    """The models of the server, to choose from."""
    items = "".join(
        f'<li><a href="{escape(each.path)}"{" aria-current=page" if each.is_here else ""}>{escape(each.name)}</a></li>'
        for each in others
    )
    return f'<nav aria-label="Models"><ul class="cw-models">{items}</ul></nav>'


def header(classifier: Classifier) -> str:
    """What this page is, in one line."""
    metadata = classifier.metadata
    classes = counted(len(metadata.classes), "class", "classes")
    looked = " and shows where it looked" if metadata.explains else ""
    return (
        '<h1 class="cw-title">What is in this picture?</h1>'
        f'<p class="cw-lead"><strong>{escape(metadata.network)}</strong> answers with one of {classes}{looked}.</p>'
    )
