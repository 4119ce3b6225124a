"""From somebody else's weights to a bundle that is inspected, exported and served like any other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from pydantic import JsonValue, ValidationError
from torch import Tensor, nn

from cutaway.checkpoints.bundle import write_bundle
from cutaway.checkpoints.environment import environment
from cutaway.checkpoints.finite import check_finite
from cutaway.checkpoints.foreign import ForeignWeights, read_weights
from cutaway.checkpoints.lock import only_writer
from cutaway.checkpoints.manifest import Data, Manifest, Monitored, Progress
from cutaway.checkpoints.matching import Described, Matching, describe, fitting, match, render
from cutaway.checkpoints.runs import Run, Stored, bundle_name
from cutaway.errors import BundleError, NetworkError
from cutaway.networks import NetworkSpec, build, build_on_meta
from cutaway.preprocessing import Preprocessing

IMPORTED = "imported"
_COUNT = ".num_batches_tracked"
_NAMED = 4


@dataclass(frozen=True)
class Imported:
    """A bundle made of weights from elsewhere.

    Attributes:
        stored: The bundle.
        matching: How the weights fit the network.
        notes: What a person should know of how they were read, a sentence each.
    """

    stored: Stored
    matching: Matching
    notes: tuple[str, ...]


def import_weights(
    weights: Path,
    out: Path,
    *,
    network: str,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    arguments: Mapping[str, JsonValue] | None = None,
    key: str | None = None,
    strip_prefix: str = "",
    partial: bool = False,
    seed: int = 0,
    allow_nan: bool = False,
) -> Imported:
    """Makes a run whose one bundle holds the weights of a file, under `step-00000000`.

    Args:
        weights: A state dict or training checkpoint of PyTorch, or safetensors.
        out: The run's directory, which must hold no bundle yet.
        network: A name from `cutaway.networks.names()`.
        classes: Label names in output order.
        preprocessing: From decoded pixels to the input that the weights were trained on.
        arguments: Of the network.
        key: Where in a nested checkpoint the weights are; found where None.
        strip_prefix: What the names in the file begin with, besides `module.` and `_orig_mod.`.
        partial: Load what fits and leave the rest at its initial values.
        seed: Of those initial values.
        allow_nan: Take weights that are NaN or infinite as they are.

    Raises:
        BundleError: The file cannot be read or does not fit, or the directory holds a run.
        NetworkError: There is no such network.

    Example:
        >>> import_weights(
        ...     Path("pets.pth"),
        ...     Path("runs/pets"),
        ...     network="torchvision:resnet18",
        ...     classes=["cat", "dog"],
        ...     preprocessing=imagenet(),
        ... )
    """
    spec = _spec(network, classes, preprocessing, arguments or {})
    expected = describe(build_on_meta(spec).state_dict())
    foreign = read_weights(weights, key=key)
    names = {name.removeprefix(strip_prefix): name for name in foreign.shapes}
    if len(names) < len(foreign.shapes):
        raise BundleError(f"Without '{strip_prefix}' some names of {weights} are the same.")
    matching = match(expected, {name: foreign.shapes[own] for name, own in names.items()}, convert=True)
    counts = _absent_counts(matching)
    _check(matching, counts, spec, weights, partial)
    if Run(out).bundle_paths():
        raise BundleError(f"{out} holds a run already.", hint="Choose another --out.")

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = build(spec)
    _load(built, foreign, matching, names)
    if not allow_nan:
        check_finite(built.state_dict(), weights)
    initial = [gap.name for gap in matching.missing if gap.name not in counts]
    initial += [pair.name for pair in (*matching.wrong_shape, *matching.wrong_type)]
    manifest = Manifest(
        network=spec,
        classes=tuple(classes),
        preprocessing=preprocessing,
        progress=Progress(epoch=0, batch=0, step=0),
        phase="training",
        metrics={},
        monitored=Monitored(metric="valid_accuracy", mode="max"),
        configuration={"weights_file": weights.name, "weights_key": foreign.key, "seed": seed, "initial": [*initial]},
        optimizer=[],
        data=Data(name=IMPORTED, fingerprint=_sha256(weights), source=f"weights file {weights.name}", sizes={}),
        environment=environment(torch.device("cpu")),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        files={},
    )
    run = Run(out)
    run.create()
    with only_writer(out):
        path = run.checkpoints / bundle_name(manifest.progress, manifest.phase)
        stored = Stored(path, write_bundle(path, manifest, {"model": built.state_dict()}), verified=True)
    return Imported(stored, matching, tuple(_notes(foreign, matching, counts, initial, seed)))


def is_imported(manifest: Manifest) -> bool:
    """Whether a bundle was made of a weights file, so that it has no data set of its own."""
    return manifest.data.name == IMPORTED and "data" not in manifest.configuration


def _spec(
    network: str, classes: Sequence[str], preprocessing: Preprocessing, arguments: Mapping[str, JsonValue]
) -> NetworkSpec:
    try:
        return NetworkSpec(
            name=network,
            num_classes=len(classes),
            input_shape=preprocessing.input_shape,
            arguments=dict(arguments),
        )
    except ValidationError as error:
        raise NetworkError(f"{network} cannot have {len(classes)} classes.") from error


def _absent_counts(matching: Matching) -> frozenset[str]:
    """BatchNorm's counts of batches, which PyTorch keeps since 0.4.1 and which no answer depends on."""
    loadable = {pair.name for pair in matching.loadable}
    return frozenset(
        gap.name
        for gap in matching.missing
        if gap.name.endswith(_COUNT) and gap.name.removesuffix(_COUNT) + ".running_mean" in loadable
    )


def _check(matching: Matching, counts: frozenset[str], spec: NetworkSpec, weights: Path, partial: bool) -> None:
    """Refuses weights that don't fit, in words where the number of classes is the reason."""
    gaps = len(matching.missing) - len(counts)
    if not (gaps or matching.unexpected or matching.wrong_shape or matching.wrong_type):
        return
    if not matching.loadable:
        raise BundleError(f"Nothing in {weights} fits {spec.name}.\n{render(matching)}", hint=_hint_on_prefix(matching))
    if partial:
        return
    offer = f"--partial loads {fitting(matching)} and leaves the others at their initial values."
    outputs = _outputs(matching, spec.num_classes)
    if outputs is not None:
        name, count = outputs
        raise BundleError(
            f"{weights} has {count} outputs (at '{name}') for {spec.num_classes} labels.\n{render(matching)}",
            hint=f"Give the labels of those {count} classes. Or {offer}",
        )
    raise BundleError(f"{weights} does not fit {spec.name}.\n{render(matching)}", hint=offer)


def _outputs(matching: Matching, num_classes: int) -> tuple[str, int] | None:
    """The last layer's name and outputs, where its number of classes is all that keeps its shape from fitting."""
    wrong = matching.wrong_shape
    counts = {pair.found.shape[0] for pair in wrong if pair.found.shape and _is_head(pair.expected, num_classes)}
    same_otherwise = all(
        _is_head(pair.expected, num_classes) and pair.expected.shape[1:] == pair.found.shape[1:] for pair in wrong
    )
    return (wrong[0].name, counts.pop()) if wrong and same_otherwise and len(counts) == 1 else None


def _is_head(described: Described, num_classes: int) -> bool:
    return described.shape[:1] == (num_classes,)


def _hint_on_prefix(matching: Matching) -> str:
    """Names the prefix that would make the names fit, where there is one."""
    for gap in matching.missing:
        for near in gap.nearest:
            if near.endswith(f".{gap.name}"):
                return f"Its names begin otherwise. Try --strip-prefix {near.removesuffix(gap.name)}"
    return "Is it another network's? --network names the one to build."


def _load(network: nn.Module, foreign: ForeignWeights, matching: Matching, names: Mapping[str, str]) -> None:
    own: dict[str, Tensor] = network.state_dict()
    tensors = foreign.read(names[pair.found_name] for pair in matching.loadable)
    with torch.no_grad():
        for pair in matching.loadable:
            own[pair.name].copy_(tensors[names[pair.found_name]])


def _notes(
    foreign: ForeignWeights, matching: Matching, counts: frozenset[str], initial: Sequence[str], seed: int
) -> list[str]:
    notes = []
    if foreign.key:
        others = f" Others are at {_listed(foreign.other_keys)}; --key takes them." if foreign.other_keys else ""
        notes.append(f"The weights are those at '{foreign.key}'.{others}")
    for dtype in sorted({pair.found.dtype for pair in matching.converted}):
        pairs = [pair for pair in matching.converted if pair.found.dtype == dtype]
        notes.append(f"{len(pairs)} tensors were converted from {dtype} to {pairs[0].expected.dtype}.")
    if counts:
        notes.append(
            f"{len(counts)} counts of BatchNorm are not in the file and stand at 0; no answer depends on them."
        )
    if initial:
        notes.append(f"{len(initial)} tensors are at their initial values of seed {seed}: {_listed(initial)}.")
    if matching.unexpected:
        extra = [tensor.name for tensor in matching.unexpected]
        notes.append(f"{len(extra)} tensors have no place in the network and were left out: {_listed(extra)}.")
    if foreign.left_out:
        notes.append(f"No tensors, and left out: {_listed(foreign.left_out)}.")
    return notes


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
