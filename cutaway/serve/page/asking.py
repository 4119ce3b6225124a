"""How the page asks the classifier: within the bounds that it shares with the API, and told in words when it fails."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, TypeVarTuple

import gradio as gr

from cutaway.errors import CutawayError
from cutaway.images import Limits
from cutaway.serve.classifier import Classifier
from cutaway.serve.slots import Slots

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


@dataclass(frozen=True)
class Asking:
    """What every tab needs to answer.

    Attributes:
        classifier: What answers.
        slots: Bounds how many requests are worked on at once.
        limits: Of one picture.
    """

    classifier: Classifier
    slots: Slots
    limits: Limits

    async def in_turn(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Runs what computes in a thread, once there is a place, and stops it past its time.

        Raises:
            BusyError: Every place is taken, also those to wait in.
            TimeLimitError: It took too long.
        """
        return await self.slots.run(function, *arguments)


def toast(error: CutawayError) -> None:
    """Shows the error in words. Not by raising it: then the last picture's answer would stay beside the new picture."""
    gr.Warning(html.escape(str(error)))  # the browser takes it for HTML
