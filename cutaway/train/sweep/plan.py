"""From a sweep's file to its runs: every setting of each, and a name that stays."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from cutaway.errors import SettingsError
from cutaway.settings import FREE_TO_CHANGE, TrainSettings, validated
from cutaway.settings.sweep import Distribution, RandomDraws, SweepSettings, Values

KEY_LENGTH = 10
_LONGEST_VALUE, _LONGEST_NAME = 24, 100
_UNSAFE = re.compile(r"[^A-Za-z0-9._+=,-]+")


@dataclass(frozen=True)
class PlannedRun:
    """A run of a sweep.

    Attributes:
        number: From 1, in the order of the file.
        overrides: The settings that the sweep gave it, as they were understood; `network_arguments.width` for a part.
        settings: All of them.
        key: What the result depends on, as a short hash: the run's identity, whatever else the file says.
    """

    number: int
    overrides: Values
    settings: TrainSettings
    key: str

    @property
    def name(self) -> str:
        """The name of its directory, such as `lr=0.01,network=lenet5-5f0c3a9e21`."""
        return self.settings.out.name


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep.

    Attributes:
        runs: In the order in which they are trained.
        num_repeated: How many more the file names that would be the same as one of these.
    """

    runs: tuple[PlannedRun, ...]
    num_repeated: int = 0


def expand(sweep: SweepSettings) -> Plan:
    """Makes the runs of a sweep and validates the settings of each.

    A run's key is a hash of the settings that its result depends on, as far as they are not the defaults: the same
    run has the same key in another order, beside other runs, or with a setting moved from `grid` to `base`.

    Raises:
        SettingsError: A setting of a run cannot be; says of which run.
    """
    runs: dict[str, PlannedRun] = {}
    repeated = 0
    for number, given in enumerate(_overrides(sweep), 1):
        try:
            settings = validated(_merged(sweep.base, given))
        except SettingsError as error:
            raise SettingsError(f"Run {number} ({in_short(given)}): {error.message}", hint=error.hint) from error
        understood = {name: _value_of(settings, name) for name in sorted(given)}
        key = _key(settings, understood)
        if key in runs:
            repeated += 1
            continue
        settings = settings.model_copy(update={"out": sweep.out / _directory_name(understood, key)})
        runs[key] = PlannedRun(len(runs) + 1, understood, settings, key)
    return Plan(tuple(runs.values()), repeated)


def key_of(directory: Path) -> str | None:
    """The key at the end of a run directory's name; None where it has none."""
    found = re.search(rf"-([0-9a-f]{{{KEY_LENGTH}}})$", directory.name)
    return found[1] if found else None


def draw(draws: RandomDraws) -> list[Values]:
    """The draws: each a function of the seed, the setting's name and the draw's number, and of nothing else."""
    return [
        {name: _drawn(source, draws.seed, name, index) for name, source in draws.distributions.items()}
        for index in range(draws.count)
    ]


def in_short(overrides: Mapping[str, Any]) -> str:
    """`lr=0.01, network=mlp`, for people."""
    return ", ".join(f"{name}={_written(value)}" for name, value in overrides.items()) or "the base as it is"


def _overrides(sweep: SweepSettings) -> Iterator[Values]:
    draws: list[Values] = draw(sweep.random) if sweep.random else [{}]
    if sweep.grid or sweep.random:
        # Draw by draw, so that a sweep that is half done has compared the whole grid on some of them.
        for drawn in draws:
            for values in itertools.product(*sweep.grid.values()):
                yield dict(zip(sweep.grid, values, strict=True)) | drawn
    yield from sweep.runs


def _merged(base: Values, given: Values) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for layer in (base, given):
        # Whole settings before parts of them.
        for name, value in sorted(layer.items(), key=lambda item: "." in item[0]):
            setting, dot, part = name.partition(".")
            if not dot:
                values[name] = value
                continue
            default = getattr(TrainSettings(), setting, {})
            whole = values.get(setting, default)
            if not isinstance(whole, dict):
                raise SettingsError(f"'{setting}' has no parts, so '{name}' cannot be set.")
            values[setting] = whole | {part: value}
    return values


def _value_of(settings: TrainSettings, name: str) -> JsonValue:
    """A setting's value, or that of a part of it, as JSON."""
    setting, dot, part = name.partition(".")
    value: Any = settings.model_dump(mode="json", include={setting})[setting]
    return value[part] if dot else value  # type: ignore[no-any-return]


def _key(settings: TrainSettings, overrides: Values) -> str:
    now, default = (s.model_dump(mode="json", exclude={"out"}) for s in (settings, TrainSettings()))
    counted = {
        name: value
        for name, value in now.items()
        if value != default[name] and (name not in FREE_TO_CHANGE or name in overrides)
    }
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:KEY_LENGTH]


def _directory_name(overrides: Values, key: str) -> str:
    """Letters, digits and a few signs that no file system and no shell minds."""
    parts = [f"{name}={_UNSAFE.sub('-', _written(value))[:_LONGEST_VALUE]}" for name, value in overrides.items()]
    readable = _UNSAFE.sub("-", ",".join(parts))[:_LONGEST_NAME].strip("-.,=") or "base"
    return f"{readable}-{key}"


def _written(value: JsonValue) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def _drawn(source: Distribution, seed: int, name: str, index: int) -> JsonValue:
    digest = hashlib.sha256(f"{seed}/{name}/{index}".encode()).digest()
    share = (int.from_bytes(digest[:8], "big") >> 11) / 2**53  # in [0, 1)
    if source.choice is not None:
        return source.choice[int(share * len(source.choice))]
    if source.integers is not None:
        low, high = source.integers
        return low + int(share * (high - low + 1))
    if source.uniform is not None:
        return _rounded(source.uniform[0] + share * (source.uniform[1] - source.uniform[0]))
    assert source.log_uniform is not None
    low_log, high_log = map(math.log, source.log_uniform)
    return _rounded(math.exp(low_log + share * (high_log - low_log)))


def _rounded(value: float) -> float:
    """To six digits: the last bits of a logarithm differ between platforms, and a run's key must not."""
    return float(f"{value:.6g}")
