"""From a command's words to its options."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from cutaway.errors import SettingsError
from cutaway.settings import TrainSettings, read_yaml, validated

Options = TypeVar("Options")


def parse(options: type[Options], command: str, arguments: Sequence[str]) -> Options:
    """Fills a dataclass of options from the words after a command; wrong usage ends the process with 2."""
    return tyro.cli(
        options,
        prog=f"cutaway {command}",
        args=list(arguments),
        description=options.__doc__,
    )


def parse_settings(command: str, arguments: Sequence[str]) -> TrainSettings:
    """Training settings from `--config FILE` and the options that override it.

    The words go through a plain copy of the settings, so that a value out of range is told in our own sentence.
    """
    words = list(arguments)
    configured = validated(read_yaml(_taken_out(words, "--config")) if _has(words, "--config") else {})
    fields: list[tuple[str, Any, Any]] = [
        (
            name,
            Annotated[field.rebuild_annotation(), tyro.conf.arg(help=field.description)],
            dataclasses.field(default=getattr(configured, name)),
        )
        for name, field in TrainSettings.model_fields.items()
        if name != "network_arguments"
    ]
    plain = dataclasses.make_dataclass("TrainOptions", fields)
    description = "Train a network, or go on with the run at --out.\n\n--config FILE reads settings from YAML first."
    chosen: Any = tyro.cli(plain, prog=f"cutaway {command}", args=words, description=description)
    return validated(dataclasses.asdict(chosen) | {"network_arguments": configured.network_arguments})


def _has(words: list[str], option: str) -> bool:
    return any(word == option or word.startswith(option + "=") for word in words)


def _taken_out(words: list[str], option: str) -> Path:
    at = next(at for at, word in enumerate(words) if word == option or word.startswith(option + "="))
    word = words.pop(at)
    if word != option:
        return Path(word.removeprefix(option + "="))
    if at >= len(words):
        raise SettingsError(f"{option} needs the name of a file after it.")
    return Path(words.pop(at))
