"""`cutaway checkpoints show` and `diff`: what one bundle says of itself, and how two differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import tyro

from cutaway.cli.arguments import parse
from cutaway.cli.bundles import age
from cutaway.cli.terminal import as_bytes, bars, say, say_json, say_table, without_nan
from cutaway.errors import SettingsError

if TYPE_CHECKING:
    from cutaway.checkpoints import Stored
    from cutaway.checkpoints.differences import Difference

_CLASSES_SHOWN = 12


@dataclass(frozen=True)
class ShowOptions:
    """Print what a bundle says of itself: progress, metrics, settings, data, environment, history and files."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    json: bool = False
    """Print the manifest as JSON."""


@dataclass(frozen=True)
class DiffOptions:
    """Compare two bundles: settings that differ, metrics side by side, and how far the weights lie apart."""

    first: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    second: tyro.conf.Positional[str]
    """Likewise."""
    limit: int = 20
    """Tensors to show, those that changed the most first; 0 shows all."""
    json: bool = False
    """Print everything as JSON."""


def run_show(arguments: Sequence[str]) -> None:
    """Prints a bundle's manifest."""
    options = parse(ShowOptions, "checkpoints show", arguments)
    from cutaway.checkpoints import find

    stored = find(options.reference)
    if options.json:
        manifest = stored.manifest.model_dump(mode="json")
        say_json({"path": str(stored.path), "bytes": stored.bytes, "digest": stored.manifest.digest()} | manifest)
        return
    _show(stored)


def run_diff(arguments: Sequence[str]) -> None:
    """Prints how two bundles differ."""
    options = parse(DiffOptions, "checkpoints diff", arguments)
    from cutaway.checkpoints import find
    from cutaway.checkpoints.differences import compare_bundles

    if options.limit < 0:
        raise SettingsError(f"--limit cannot be {options.limit}.", hint="0 shows all.")
    first, second = find(options.first), find(options.second)
    difference = compare_bundles(first, second, track=bars)
    if options.json:
        say_json(_as_json(difference) | {"first": str(first.path), "second": str(second.path)})
        return
    say(f"A  {first.path}\nB  {second.path}")
    _say_values("settings that differ", difference.settings)
    _say_values("metrics", difference.metrics)
    _say_distances(difference, options.limit)


def _show(stored: Stored) -> None:
    manifest = stored.manifest
    progress = manifest.progress
    where = f", {progress.batch} batches into the next" if progress.batch else ""
    names = ", ".join(manifest.classes[:_CLASSES_SHOWN])
    more = f" and {len(manifest.classes) - _CLASSES_SHOWN} more" if len(manifest.classes) > _CLASSES_SHOWN else ""
    say(f"{stored.path}, {as_bytes(stored.bytes)}, {age(manifest.created)} old")
    _section(
        "progress",
        {
            "step": progress.step,
            "epochs": f"{progress.epoch}{where}",
            "phase": manifest.phase,
            "best by": f"{manifest.monitored.metric}, the {manifest.monitored.mode}imum",
            "created": manifest.created,
        },
    )
    _section("metrics", manifest.metrics)
    _section(
        "network",
        {
            "name": manifest.network.name,
            "input": "x".join(map(str, manifest.network.input_shape)),
            **manifest.network.arguments,
            "classes": f"{len(manifest.classes)}: {names}{more}",
        },
    )
    _section("preprocessing", manifest.preprocessing.model_dump(mode="json", exclude_none=True))
    _section("settings", manifest.configuration)
    _section("data", manifest.data.model_dump())
    _section("environment", manifest.environment.model_dump(exclude_none=True))
    if manifest.resumed:
        say("\nhistory")
        for resumption in manifest.resumed:
            because = f": {'; '.join(resumption.because)}" if resumption.because else ""
            say(f"  resumed after step {resumption.step}, {resumption.equality}{because}")
    say("\nfiles")
    files = [[f"  {name}", as_bytes(entry.bytes), entry.digest] for name, entry in manifest.files.items()]
    kind = "SHA-256" if any(entry.sha256 for entry in manifest.files.values()) else "BLAKE3"
    say_table(["  name", "size", kind], files)
    say(f"\nbundle's hash {manifest.digest()}, schema {manifest.schema_version}")


def _section(title: str, values: Mapping[str, Any]) -> None:
    if not values:
        return
    say(f"\n{title}")
    width = max(len(name) for name in values)
    for name, value in values.items():
        say(f"  {name:{width}}  {_cell(value)}")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items()) or "-"
    if isinstance(value, list | tuple):
        return " ".join(map(_cell, value)) or "-"
    return "-" if value is None or value == "" else str(value)


def _say_values(title: str, values: Mapping[str, tuple[Any, Any]]) -> None:
    if not values:
        say(f"\nno {title}")
        return
    say(f"\n{title}")
    say_table(["", "A", "B"], [[name, _cell(first), _cell(second)] for name, (first, second) in values.items()])


def _say_distances(difference: Difference, limit: int) -> None:
    changed = [distance for distance in difference.distances if distance.largest != 0]
    say(f"\nweights: {len(changed)} tensors differ, {difference.num_equal} are equal")
    shown = changed[:limit] if limit else changed
    if shown:
        say_table(
            ["layer", "tensor", "relative L2", "largest", "cosine"],
            [[*_split(each.name), each.relative, each.largest, f"{each.cosine:.6f}"] for each in shown],
        )
    if len(changed) > len(shown):
        say(f"… and {len(changed) - len(shown)} more; --limit 0 shows all")
    for letter, names in (("A", difference.only_first), ("B", difference.only_second)):
        if names:
            say(f"only in {letter}, or of another shape: {len(names)} tensors, such as {names[0]}")


def _split(name: str) -> tuple[str, str]:
    layer, _, tensor = name.rpartition(".")
    return layer or "-", tensor


def _as_json(difference: Difference) -> dict[str, Any]:
    def plain(value: float | None) -> float | str | None:
        return None if value is None else without_nan({"": value})[""]

    return {
        "settings": {name: {"a": a, "b": b} for name, (a, b) in difference.settings.items()},
        "metrics": {name: {"a": plain(a), "b": plain(b)} for name, (a, b) in difference.metrics.items()},
        "weights": [
            {"name": each.name} | without_nan({k: v for k, v in asdict(each).items() if k != "name"})
            for each in difference.distances
        ],
        "only_first": list(difference.only_first),
        "only_second": list(difference.only_second),
    }
