"""From a command's words to its options."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import tyro

from cutaway.errors import SettingsError
from cutaway.settings import GROUPS, SettingsGroup, TrainSettings, read_yaml, validated

Options = TypeVar("Options")


class Own(NamedTuple):
    """An option of a command beside training's settings."""

    kind: Any
    default: Any
    help: str


def parse(options: type[Options], command: str, arguments: Sequence[str]) -> Options:
    """Fills a dataclass of options from the words after a command; wrong usage ends the process with 2."""
    return tyro.cli(
        options,
        prog=f"cutaway {command}",
        args=list(arguments),
        description=options.__doc__,
    )


def parse_settings_and(
    own: Mapping[str, Own],
    command: str,
    arguments: Sequence[str],
    purpose: str,
    *,
    without: Collection[type[SettingsGroup]] = (),
) -> tuple[TrainSettings, dict[str, Any]]:
    """Training settings from `--config FILE` or `--resume RUN` and the options that override them.

    The words go through a plain copy of the settings, so that a value out of range is told in our own sentence.

    Args:
        own: The command's own options beside the settings, by name.
        command: The command's words.
        arguments: The words after it.
        purpose: What `--help` says first.
        without: Groups of settings that mean nothing to the command, which are no options of it.

    Returns:
        The settings, and the values of the command's own options.
    """
    begun: dict[str, Any] = {}
    config, resume = _value_of(arguments, "--config"), _value_of(arguments, "--resume")
    if config and resume:
        raise SettingsError("--config and --resume both name settings.", hint="Give one of them.")
    if config:
        begun = read_yaml(Path(config))
    if resume:
        configuration = Path(resume) / "config.yaml"
        if not configuration.exists():
            raise SettingsError(f"There is no run at {resume} to go on with.", hint="Name the --out of a training.")
        begun = read_yaml(configuration) | {"out": resume}
    configured = validated(begun)
    beside = {
        "config": Own(Path | None, None, "Settings from a YAML file, which options override."),
        "resume": Own(Path | None, None, "Go on with the run in this directory, with its own settings."),
    } | dict(own)
    fields: list[tuple[str, Any, Any]] = [
        (name, Annotated[option.kind, tyro.conf.arg(help=option.help)], dataclasses.field(default=option.default))
        for name, option in beside.items()
    ]
    groups = [group for group in GROUPS if group not in without]
    for group in groups:
        # A box of its own in --help; the names stay flat.
        options: Any = _options_of(group, configured)
        kind = Annotated[options, tyro.conf.OmitArgPrefixes]
        fields.append((_field(group), kind, dataclasses.field(default_factory=options)))
    plain = dataclasses.make_dataclass("TrainOptions", fields)
    chosen = vars(tyro.cli(plain, prog=f"cutaway {command}", args=list(arguments), description=purpose))
    values = {name: value for group in groups for name, value in vars(chosen[_field(group)]).items()}
    settings = configured.changed(**values)
    return settings, {name: chosen[name] for name in own}


def require_seed(seed: int) -> None:
    """Refuses what is no seed for every generator.

    Raises:
        SettingsError: It is none.
    """
    if not 0 <= seed < 2**63:
        raise SettingsError(f"--seed must lie between 0 and {2**63 - 1}, not {seed}.")


def layer_names(words: Sequence[str] | None) -> list[str] | None:
    """The layers that `--layers a b` or `--layers a,b` names; None where the option is left out.

    The network itself goes by the name "", which only an empty word of its own is, and nothing behind a comma.
    """
    if words is None:
        return None
    return [name.strip() for word in words for name in word.split(",") if name.strip() or not word]


def names_option(words: Sequence[str], option: str) -> bool:
    """Whether an option is among the words of a command."""
    return any(word == option or word.startswith(option + "=") for word in words)


def _field(group: type[SettingsGroup]) -> str:
    """The group's title as a name of Python's; tyro shows it with the dash again."""
    return group.title.replace("-", "_")


def _options_of(group: type[SettingsGroup], configured: TrainSettings) -> Any:
    """A plain dataclass with a group's settings, which start as they were configured."""
    fields: list[tuple[str, Any, Any]] = [
        (
            name,
            Annotated[field.rebuild_annotation(), tyro.conf.arg(help=" ".join((field.description or "").split()))],
            dataclasses.field(default=getattr(configured, name)),
        )
        for name, field in group.model_fields.items()
        if name != "network_arguments"
    ]
    options = dataclasses.make_dataclass(group.__name__, fields)
    options.__doc__ = group.__doc__
    return options


def _value_of(words: Sequence[str], option: str) -> str | None:
    """The word after an option, where it is given; its absence is tyro's to complain about."""
    for at, word in enumerate(words):
        if word.startswith(option + "="):
            return word.removeprefix(option + "=")
        if word == option and at + 1 < len(words):
            return words[at + 1]
    return None
