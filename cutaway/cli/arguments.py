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


def parse_settings(command: str, arguments: Sequence[str]) -> tuple[TrainSettings, tuple[str, ...]]:
    """Training settings from `--config FILE` or `--resume RUN` and the options that override them.

    The words go through a plain copy of the settings, so that a value out of range is told in our own sentence.

    Returns:
        The settings, and the names given to `--override`.
    """
    begun: dict[str, Any] = {}
    config, resume = _value_of(arguments, "--config"), _value_of(arguments, "--resume")
    if config and resume:
        raise SettingsError("--config and --resume both name settings.", hint="Give one of them.")
    if config:
        begun = read_yaml(Path(config))
    if resume:
        begun = read_yaml(Path(resume) / "config.yaml") | {"out": resume}
    configured = validated(begun)
    fields: list[tuple[str, Any, Any]] = [
        (
            name,
            Annotated[field.rebuild_annotation(), tyro.conf.arg(help=field.description)],
            dataclasses.field(default=getattr(configured, name)),
        )
        for name, field in TrainSettings.model_fields.items()
        if name != "network_arguments"
    ]
    helps = {
        "config": (Path | None, "Settings from a YAML file, which options override.", None),
        "resume": (Path | None, "Go on with the run in this directory, with its own settings.", None),
        "override": (tuple[str, ...], "Settings that may differ from those that the run was begun with.", ()),
    }
    fields += [
        (name, Annotated[kind, tyro.conf.arg(help=text)], dataclasses.field(default=default))
        for name, (kind, text, default) in helps.items()
    ]
    plain = dataclasses.make_dataclass("TrainOptions", fields)
    description = "Train a network, or go on with the run at --out."
    chosen = dataclasses.asdict(
        tyro.cli(plain, prog=f"cutaway {command}", args=list(arguments), description=description)
    )
    override = tuple(name.replace("-", "_") for name in chosen.pop("override"))
    del chosen["config"], chosen["resume"]
    return validated(chosen | {"network_arguments": configured.network_arguments}), override


def _value_of(words: Sequence[str], option: str) -> str | None:
    """The word after an option, where it is given; its absence is tyro's to complain about."""
    for at, word in enumerate(words):
        if word.startswith(option + "="):
            return word.removeprefix(option + "=")
        if word == option and at + 1 < len(words):
            return words[at + 1]
    return None
