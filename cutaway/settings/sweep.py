"""A sweep: which runs a file stands for. Free of torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator, model_validator

from cutaway.errors import SettingsError
from cutaway.settings.faults import in_words
from cutaway.settings.reading import read_yaml
from cutaway.settings.training import TrainSettings

MOST_RUNS = 10_000

Values = dict[str, JsonValue]
_Bound = Annotated[float, Field(allow_inf_nan=False)]


class Distribution(BaseModel):
    """Where a value is drawn from: one of the four."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    uniform: tuple[_Bound, _Bound] | None = None
    """Between two bounds, all alike."""
    log_uniform: tuple[_Bound, _Bound] | None = None
    """Between two bounds above zero, each power of ten alike; for rates."""
    integers: tuple[int, int] | None = None
    """A whole number from the first to the second, both included."""
    choice: list[JsonValue] | None = Field(default=None, min_length=1)
    """One of a list."""

    @model_validator(mode="after")
    def _is_one(self) -> Distribution:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("must be one of uniform, log_uniform, integers and choice")
        bounds = self.uniform or self.log_uniform or self.integers
        if bounds and not bounds[0] < bounds[1]:
            raise ValueError("must be two bounds, the lower one first")
        if self.log_uniform and self.log_uniform[0] <= 0:
            raise ValueError("must be between bounds above zero")
        return self


class RandomDraws(BaseModel):
    """Draws of settings; every name beside these two is a setting with its distribution."""

    model_config = ConfigDict(frozen=True, extra="allow", use_attribute_docstrings=True)
    __pydantic_extra__: dict[str, Distribution]

    count: int = Field(ge=1, le=MOST_RUNS)
    """How many draws."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Decides the draws, whatever the order of the names. The setting of that name is for the grid."""

    @property
    def distributions(self) -> dict[str, Distribution]:
        """Setting -> where it is drawn from."""
        return dict(self.__pydantic_extra__)


class SweepSettings(BaseModel):
    """What a sweep's file says.

    `grid` alone gives every combination of its values, `random` alone its draws, both together every combination
    with each of the draws. `runs` come on top. Settings that none of them names are those of `base`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    parts: ClassVar[tuple[str, ...]] = ("base", "grid", "random", "runs")

    out: Path = Path("runs/sweep")
    """The sweep's directory, with a directory for each run."""
    base: Values = Field(default_factory=dict)
    """Settings of every run."""
    grid: dict[str, Annotated[list[JsonValue], Field(min_length=1)]] = Field(default_factory=dict)
    """Setting -> its values."""
    random: RandomDraws | None = None
    """Drawn settings."""
    runs: list[Values] = Field(default_factory=list, max_length=MOST_RUNS)
    """A run each: the settings that differ from `base`."""

    @field_validator("runs", mode="before")
    @classmethod
    def _empty_is_base(cls, runs: Any) -> Any:
        return [{} if run is None else run for run in runs] if isinstance(runs, list) else runs


def read_sweep(path: Path) -> SweepSettings:
    """A sweep from its YAML file.

    Raises:
        SettingsError: The file cannot be read, or something in it cannot be.
    """
    try:
        return sweep_of(read_yaml(path))
    except SettingsError as error:
        if str(path) in error.message:
            raise
        raise SettingsError(f"{path}: {error.message}", hint=error.hint) from error


def sweep_of(values: Mapping[str, Any]) -> SweepSettings:
    """A sweep from plain values.

    Raises:
        SettingsError: A value is unknown or out of range, or the runs are none or too many.
    """
    try:
        sweep = SweepSettings.model_validate(_with_underscores(values))
    except ValidationError as error:
        sentence, hint = in_words(error, known=(*SweepSettings.model_fields, *Distribution.model_fields))
        first = error.errors(include_url=False)[0]
        if first["type"] == "extra_forbidden" and first["loc"][0] in TrainSettings.model_fields:
            hint = "A setting of every run belongs under 'base'."
        raise SettingsError(sentence, hint=hint) from error
    except RecursionError as error:
        raise SettingsError("The sweep is nested too deeply.") from error
    _check_names(sweep)
    _check_count(sweep)
    return sweep


def sweep_to_yaml(sweep: SweepSettings) -> str:
    """The sweep as the YAML that `read_sweep` reads."""
    return yaml.safe_dump(sweep.model_dump(mode="json", exclude_none=True), sort_keys=False, allow_unicode=True)


def _check_names(sweep: SweepSettings) -> None:
    drawn = sweep.random.distributions if sweep.random else {}
    both = sorted(sweep.grid.keys() & drawn.keys())
    if both:
        raise SettingsError(f"'{both[0]}' stands in the grid and among the draws.", hint="Leave one of them.")
    given: list[Iterable[str]] = [sweep.base, sweep.grid, drawn, *sweep.runs]
    if any("out" in names for names in given):
        raise SettingsError(
            "'out' cannot be set for a run: each gets a directory of its own.",
            hint="Write the sweep's own 'out' beside 'base'.",
        )


def _check_count(sweep: SweepSettings) -> None:
    count = sweep.random.count if sweep.random else 1
    for values in sweep.grid.values():
        count *= len(values)
    total = len(sweep.runs) + (count if sweep.grid or sweep.random else 0)
    if total == 0:
        raise SettingsError("The sweep has no runs.", hint="Give it a 'grid', 'random' draws, or 'runs'.")
    if total > MOST_RUNS:
        raise SettingsError(f"The sweep has {total:,} runs; {MOST_RUNS:,} are the most.", hint="Draw some at random.")


def _with_underscores(values: Mapping[str, Any]) -> dict[str, Any]:
    """Names of settings with underscores, which people write with hyphens as on the command line."""
    plain = {_named(name): value for name, value in values.items()}
    for part in SweepSettings.parts:
        content = plain.get(part)
        if isinstance(content, dict):
            plain[part] = {_named(name): value for name, value in _pairs(content, part)}
        elif isinstance(content, list):
            plain[part] = [
                {_named(name): value for name, value in _pairs(entry, part)} if isinstance(entry, dict) else entry
                for entry in content
            ]
        elif content is None:
            plain.pop(part, None)
    return plain


def _pairs(content: dict[Any, Any], part: str) -> Iterable[tuple[str, Any]]:
    for name in content:
        if not isinstance(name, str):
            raise SettingsError(f"{name!r} under '{part}' is no name of a setting.")
    return content.items()


def _named(name: str) -> str:
    setting, dot, argument = name.partition(".")
    return setting.replace("-", "_") + dot + argument
