"""The layout of a run's directory, and how a person names what is in it."""

from __future__ import annotations

import difflib
import json
import math
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cutaway.checkpoints.bundle import TEMPORARY, read_manifest, verify_bundle
from cutaway.checkpoints.manifest import Manifest, Progress
from cutaway.durable import make_directory, sync_directory
from cutaway.errors import BundleError, DamagedBundleError

_NAME = re.compile(r"step-(?P<step>[0-9]{1,18})(?P<phase>-validated)?")
Which = Literal["best", "last"]


@dataclass(frozen=True)
class Stored:
    """A bundle and what its manifest says.

    Attributes:
        path: Its directory.
        manifest: Read and valid.
        verified: Whether every byte was compared with the manifest's hashes.
    """

    path: Path
    manifest: Manifest = field(repr=False)
    verified: bool = False

    @property
    def bytes(self) -> int:
        """Size of its tensors on disk."""
        return sum(entry.bytes for entry in self.manifest.files.values())


@dataclass(frozen=True)
class Run:
    """A run's directory.

    Attributes:
        path: The directory that `--out` named.
    """

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Where its bundles are."""
        return self.path / "checkpoints"

    @property
    def configuration(self) -> Path:
        """Its settings as YAML."""
        return self.path / "config.yaml"

    @property
    def metrics_csv(self) -> Path:
        """A row an epoch."""
        return self.path / "metrics.csv"

    @property
    def metrics_jsonl(self) -> Path:
        """A line an epoch and one every few steps."""
        return self.path / "metrics.jsonl"

    @property
    def test_metrics(self) -> Path:
        """What the best bundle came to over the test split, class by class, once the run has ended."""
        return self.path / "metrics-test.json"

    @property
    def tensorboard(self) -> Path:
        """Its event files."""
        return self.path / "tensorboard"

    @property
    def augmented(self) -> Path:
        """Some training pictures beside what augmentation makes of them; a PNG that is there where it makes any."""
        return self.path / "augmented.png"

    def journal(self) -> list[dict[str, Any]]:
        """What training wrote down, in order, without a last line that a crash cut short."""
        try:
            if not self.metrics_jsonl.is_file():
                return []
            lines = self.metrics_jsonl.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise BundleError(f"{self.metrics_jsonl} cannot be read: {error.strerror or error}.") from error
        entries = []
        for line in lines:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict) and isinstance(entry.get("step"), int) and "kind" in entry:
                entries.append(entry)
        return entries

    def is_finished(self) -> bool:
        """Whether its training came to its end: the journal closes with what was measured after the last epoch."""
        entries = self.journal()
        return bool(entries) and entries[-1]["kind"] == "final"

    def bundle_paths(self) -> list[Path]:
        """Committed bundles, whole or damaged, the oldest first."""
        try:
            if not self.checkpoints.is_dir():
                return []
            found = [path for path in self.checkpoints.iterdir() if path.name.startswith("step-") and path.is_dir()]
        except OSError as error:
            raise BundleError(f"{self.checkpoints} cannot be read: {error.strerror or error}.") from error
        return sorted(found, key=_by_step)

    def bundles(self, on_damage: Callable[[BundleError], None] | None = None) -> list[Stored]:
        """Bundles whose manifests can be read, the oldest first.

        Args:
            on_damage: Told of each that cannot; without it the first such error is raised.
        """
        stored = []
        for path in self.bundle_paths():
            try:
                stored.append(Stored(path, read_manifest(path)))
            except BundleError as error:
                if on_damage is None:
                    raise
                on_damage(error)
        return stored

    def set_aside(self, path: Path) -> Path:
        """Renames a damaged bundle so that it is no longer taken for one, and keeps it for a person to look at."""
        target = path.with_name(f"damaged-{path.name}")
        number = 1
        while target.exists():
            number += 1
            target = path.with_name(f"damaged-{path.name}-{number}")
        return path.rename(target)

    def newest_whole(self, on_damage: Callable[[BundleError], None]) -> Stored | None:
        """The newest bundle whose every byte is right; damaged ones after it are set aside and told of.

        Returns:
            None where the run has no bundle yet.

        Raises:
            BundleError: Every bundle is damaged, or one cannot be read for another reason, such as a newer schema:
                then nothing is set aside, and nothing begins anew over it.
        """
        damaged: list[tuple[Path, BundleError]] = []
        for path in reversed(self.bundle_paths()):
            try:
                whole = Stored(path, verify_bundle(path), verified=True)
            except DamagedBundleError as error:
                damaged.append((path, error))
                continue
            for torn, why in damaged:
                self.set_aside(torn)
                on_damage(why)
            return whole
        if damaged:
            raise BundleError(
                f"All {len(damaged)} bundles of {self.path} are damaged; of the newest: {damaged[0][1].message}",
                hint="Restore one from a copy, or begin a new run with another --out.",
            )
        return None

    def create(self) -> None:
        """Makes the directories of a new run, or leaves those that are there.

        Raises:
            BundleError: The disk refuses.
        """
        try:
            make_directory(self.checkpoints)
        except OSError as error:
            raise BundleError(
                f"The run directory {self.path} cannot be written: {error.strerror or error}.",
                hint="Choose another --out.",
            ) from error

    def clear_temporary(self) -> None:
        """Removes what a killed writer left behind, as far as it can be removed; only for the run's one writer."""
        if self.checkpoints.is_dir():
            for path in self.checkpoints.iterdir():
                if path.name.startswith(TEMPORARY):
                    # What stays takes room and nothing else: no reader looks at it.
                    shutil.rmtree(path, ignore_errors=True)

    def prune(self, keep_last: int, keep_best: int = 1, keep_every: int = 0) -> list[str]:
        """Removes bundles that nobody asked to keep; the newest two stay in any case.

        Args:
            keep_last: So many of the newest.
            keep_best: So many with the best monitored metric.
            keep_every: Those after every so many steps; 0 for none.

        Returns:
            A sentence for each bundle that could not be removed.
        """
        failures = []
        for bundle in self.superfluous(keep_last, keep_best, keep_every):
            try:
                # Renamed first, and the rename on disk, so that neither a kill nor a loss of power halfway leaves a
                # bundle with files missing under its own name.
                doomed = bundle.path.rename(bundle.path.with_name(TEMPORARY + bundle.path.name))
                sync_directory(doomed.parent)
                shutil.rmtree(doomed)
            except OSError as error:
                failures.append(f"The old bundle {bundle.path} cannot be removed: {error.strerror or error}.")
        return failures

    def superfluous(self, keep_last: int, keep_best: int = 1, keep_every: int = 0) -> list[Stored]:
        """The bundles that `prune` removes."""
        stored = self.bundles(on_damage=lambda _: None)
        kept = {bundle.path for bundle in stored[-max(2, keep_last) :]}
        kept |= {bundle.path for bundle in ranked(stored)[:keep_best]}
        if keep_every:
            kept |= {bundle.path for bundle in stored if bundle.manifest.progress.step % keep_every == 0}
        return [bundle for bundle in stored if bundle.path not in kept]


def bundle_name(progress: Progress, phase: str) -> str:
    """`step-00000938`, or `step-00000938-validated` after an epoch's validation."""
    return f"step-{progress.step:08d}" + ("-validated" if phase == "validated" else "")


def best_of(stored: list[Stored]) -> Stored | None:
    """The bundle with the best monitored metric; None where no bundle has one."""
    return next(iter(ranked(stored)), None)


def ranked(stored: list[Stored]) -> list[Stored]:
    """Bundles with a monitored metric, the best first; of two that are equal the earlier. NaN does not count."""
    rated = [bundle for bundle in stored if _score(bundle.manifest) > -math.inf]
    return sorted(rated, key=lambda bundle: -_score(bundle.manifest))


def find(reference: str | Path, *, prefer: Which = "best") -> Stored:
    """Finds the bundle that a person named: a bundle's path, `RUN`, `RUN@best`, `RUN@last` or `RUN@STEP`.

    Args:
        reference: What the person wrote.
        prefer: What a bare `RUN` means.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
    """
    text = str(reference)
    if "@" in Path(text).name and not Path(text).exists():
        base, _, wanted = text.rpartition("@")
    else:
        base, wanted = text, prefer
        if (
            Path(text).exists()
            and not (Path(text) / "checkpoints").is_dir()
            and not Run(Path(text)).configuration.exists()
        ):
            if inside := _runs_in(Path(text)):
                raise BundleError(f"{text} is a folder of runs.", hint=f"Name one of them: {' or '.join(inside[:3])}.")
            return Stored(Path(text), read_manifest(Path(text)))
    run = Run(Path(base))
    if not run.path.is_dir():
        if _names_network(base):
            raise BundleError(
                f"There is no run or bundle at {base}, which is a network's name; this takes one that was trained.",
                hint=f"Name a run or a bundle, or train one: cutaway train --network {base} --out runs/NAME",
            )
        near = _runs_like(Path(base))
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Train one: cutaway train --out {base}"
        raise BundleError(f"There is no run or bundle at {base}.", hint=hint)
    damaged: list[BundleError] = []
    stored = run.bundles(on_damage=damaged.append)
    if wanted == "last" and damaged:
        raise beside_others(damaged[-1], run)
    if not stored and damaged:
        raise damaged[-1]
    if not stored:
        raise BundleError(f"{base} holds no whole bundle.", hint="Name a run's directory, or train one there.")
    if wanted == "best":
        return best_of(stored) or stored[-1]
    if wanted == "last":
        return stored[-1]
    if not (wanted.isascii() and wanted.isdecimal()):
        raise BundleError(f"'{wanted}' names no bundle of {base}.", hint="Write RUN@best, RUN@last or RUN@STEP.")
    matching = [bundle for bundle in stored if bundle.manifest.progress.step == int(wanted)]
    if not matching:
        steps = ", ".join(str(bundle.manifest.progress.step) for bundle in stored)
        raise BundleError(f"{base} keeps no bundle of step {wanted}.", hint=f"It keeps steps {steps}.")
    return matching[-1]


def beside_others(error: BundleError, run: Run) -> BundleError:
    """The same error with the way to the run's other bundles, where one is damaged and there are others."""
    if not isinstance(error, DamagedBundleError) or len(run.bundle_paths()) < 2:
        return error
    hint = f"Another may be whole: cutaway checkpoints list {run.path} --verify; RUN@best and RUN@STEP name them."
    return DamagedBundleError(error.message, hint=hint)


def _runs_like(path: Path) -> list[str]:
    """The runs beside a path whose names are nearly its own."""
    runs = [Path(run).name for run in _runs_in(path.parent)]
    return [str(path.with_name(name)) for name in difflib.get_close_matches(path.name, runs, n=3, cutoff=0.6)]


def _runs_in(folder: Path) -> list[str]:
    """The runs of which a folder holds the directories."""
    if not folder.is_dir():
        return []
    return sorted(str(child) for child in folder.iterdir() if Run(child).checkpoints.is_dir())


def _names_network(reference: str) -> bool:
    from cutaway.networks import names

    return reference.startswith(("torchvision:", "python:")) or reference in names()


def _by_step(path: Path) -> tuple[int, str]:
    """Sorts bundles by time, whatever the clock said: by their steps as numbers, and the validated one last."""
    digits = path.name.removeprefix("step-").partition("-")[0]
    return (int(digits) if digits.isascii() and digits.isdigit() else -1, path.name)


def _score(manifest: Manifest) -> float:
    value = manifest.metrics.get(manifest.monitored.metric, math.nan)
    if math.isnan(value):
        return -math.inf
    return value if manifest.monitored.mode == "max" else -value
