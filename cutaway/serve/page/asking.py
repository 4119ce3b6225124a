"""How the page asks the classifier: within the bounds that it shares with the API, and told in words when it fails."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import gradio as gr

from cutaway.errors import CutawayError, ServingError
from cutaway.images import Limits
from cutaway.serve.classifier import Classifier
from cutaway.serve.slots import Slots

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Asking:
    """What every tab needs to answer.

    Args:
        classifier: What answers.
        slots: Bounds how many requests are worked on at once.
        limits: Of one picture.
        model: Its name, under which its work is counted.
    """

    def __init__(self, classifier: Classifier, slots: Slots, limits: Limits, model: str = "") -> None:
        self._classifier: Classifier | None = classifier
        self._slots = slots
        self._model = model
        self.limits = limits

    @property
    def classifier(self) -> Classifier:
        """What answers.

        Raises:
            ServingError: It was let go.
        """
        if self._classifier is None:
            raise ServingError("The model was replaced since this page was opened.", hint="Reload the page.")
        return self._classifier

    def release(self) -> None:
        """Lets the classifier go at once, however long the page itself is remembered by Gradio."""
        self._classifier = None

    async def in_turn(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Runs what computes in a thread, once there is a place, and stops it past its time.

        Raises:
            BusyError: Every place is taken, also those to wait in.
            TimeLimitError: It took too long.
        """
        return await self._slots.run(function, *arguments, model=self._model)


def toast(error: CutawayError) -> None:
    """Shows the error in words. Not by raising it: then the last picture's answer would stay beside the new picture."""
    gr.Warning(html.escape(str(error)), title="No answer")  # the browser takes it for HTML


def failure(error: CutawayError) -> str:
    """The error as HTML in place of an answer: a toast is gone after seconds, and the picture stands there still."""
    return f'<p class="cw-failure">{html.escape(str(error))}</p>'
