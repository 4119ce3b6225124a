"""The example pictures that came with a file, to try by a click, with their true labels."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image

from cutaway.errors import CutawayError, ImageError, ServingError
from cutaway.images import decode, encode_png
from cutaway.preprocessing.spec import Pixels
from cutaway.serve.answers import data_uri
from cutaway.serve.classifier import Prediction
from cutaway.serve.examples import Example
from cutaway.serve.page.asking import Asking, toast
from cutaway.serve.page.words import class_name
from cutaway.serve.page_mount import STATIC
from cutaway.serve.uploads import KEPT, upload_folder

_MOST_SHOWN = 60
_THUMBNAIL = 72


class Gallery:
    """Examples as the browser may ask for them: by number, and as files among the uploads.

    Args:
        examples: Of `examples_of`; beyond the first sixty they are not shown.

    Raises:
        ServingError: A picture among them cannot be decoded.
    """

    def __init__(self, examples: Sequence[Example]) -> None:
        self._examples = tuple(examples[:_MOST_SHOWN])
        self._thumbnails = tuple(data_uri(_thumbnail(_decoded(example))) for example in self._examples)
        self._folder = Path(tempfile.mkdtemp(prefix=KEPT, dir=upload_folder()))

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._examples)

    def html(self) -> str:
        """A button for each."""
        buttons = "".join(
            f'<li><button type="button" data-index="{index}"><img class="cw-pixelated" src="{thumbnail}" alt="">'
            f'<span title="{escape(example.label)}">{class_name(example.label)}</span></button></li>'
            for index, (example, thumbnail) in enumerate(zip(self._examples, self._thumbnails, strict=True))
        )
        return (
            '<h2 class="cw-subheading" id="gallery-title">Or try one of these, with its true class</h2>'
            f'<ul class="cw-gallery" aria-labelledby="gallery-title">{buttons}</ul>'
        )

    def picture(self, index: object) -> Path:
        """An example as a file among the uploads, from where the page shows it.

        Raises:
            ServingError: There is no such example, or it is no longer what it was.
        """
        if not isinstance(index, int) or not 0 <= index < len(self._examples):
            raise ServingError("There is no such example.")
        path = self._folder / f"{index}.png"
        if not path.exists():
            whole = path.with_suffix(f".{secrets.token_hex(4)}")  # another visitor may read it meanwhile
            whole.write_bytes(encode_png(_decoded(self._examples[index])))
            whole.replace(path)
        return path

    def example(self, path: Path) -> Example | None:
        """Which example a file among the uploads is; None where it is a visitor's own picture."""
        if path.parent != self._folder or not path.stem.isdecimal() or int(path.stem) >= len(self._examples):
            return None
        return self._examples[int(path.stem)]


def show_gallery(asking: Asking, gallery: Gallery, picture: gr.Image) -> None:
    """Creates the buttons, which put their example in the place of the picture."""
    buttons = gr.HTML(gallery.html(), js_on_load=(STATIC / "gallery.js").read_text(encoding="utf-8"), elem_id="gallery")

    async def choose(event: gr.EventData) -> object:
        sent = event._data  # whatever the browser sent; its attributes fail where that is no dictionary
        try:
            return str(await asking.in_turn(gallery.picture, sent.get("index") if isinstance(sent, dict) else None))
        except CutawayError as error:
            toast(error)
            return gr.skip()

    buttons.click(choose, outputs=[picture], concurrency_limit=None, show_progress="hidden", api_visibility="private")


def verdict(example: Example | None, prediction: Prediction) -> str:
    """Whether the network is right; nothing where the true class is not known."""
    if example is None:
        return ""
    right = prediction.top[0].index == example.class_index
    said = "The network is right." if right else f"The network is wrong: it says {class_name(prediction.top[0].label)}."
    return (
        f'<p class="cw-verdict {"cw-is-right" if right else "cw-is-wrong"}">'
        f"True class: <strong>{class_name(example.label)}</strong>. {said}</p>"
    )


def _decoded(example: Example) -> Pixels:
    try:
        return decode(example.path)
    except ImageError as error:
        raise ServingError(f"The example {example.path} cannot be shown: {error.message}", hint=error.hint) from error


def _thumbnail(pixels: Pixels) -> Pixels:
    image = Image.fromarray(pixels)
    image.thumbnail((_THUMBNAIL * 2, _THUMBNAIL * 2))
    return np.asarray(image)
