"""What a network makes of a picture before it looks, in words, for the served page and the one without a server."""

from __future__ import annotations

from cutaway.preprocessing.spec import Preprocessing


def size(height: int, width: int) -> str:
    """Width times height, as people say it, never broken over two lines."""
    return f"{width}\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}{height}"


def input_in_words(preprocessing: Preprocessing) -> str:
    """How it is resized, in which colours, and by which interpolation."""
    sides = size(*preprocessing.size)
    resize = {
        "stretch": f"resized to {sides}",
        "shorter": f"shorter side to {preprocessing.resize_to}, centre {sides}",
        "pad": f"fitted into {sides}, grey around",
    }[preprocessing.resize]
    color = {"rgb": "colour", "grey": "grey", "grey3": "grey in three channels"}[preprocessing.color]
    return f"{resize}, {color}, {preprocessing.interpolation}"
