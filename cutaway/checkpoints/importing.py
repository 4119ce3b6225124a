"""From somebody else's weights to a bundle that is inspected, exported and served like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from pydantic import JsonValue

from cutaway.checkpoints.bundle import write_bundle
from cutaway.checkpoints.environment import environment
from cutaway.checkpoints.foreign import read_weights
from cutaway.checkpoints.foreign_networks import load_network, spec_for
from cutaway.checkpoints.lock import only_writer
from cutaway.checkpoints.manifest import Data, Manifest, Monitored, Progress
from cutaway.checkpoints.matching import Matching
from cutaway.checkpoints.runs import Run, Stored, bundle_name
from cutaway.errors import BundleError
from cutaway.preprocessing import Preprocessing

IMPORTED = "imported"


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
    spec = spec_for(network, classes, preprocessing, arguments or {})
    if Run(out).bundle_paths():
        raise BundleError(f"{out} holds a run already.", hint="Choose another --out.")
    foreign = read_weights(weights, key=key)
    loaded = load_network(spec, foreign, strip_prefix=strip_prefix, partial=partial, seed=seed, allow_nan=allow_nan)
    manifest = Manifest(
        network=spec,
        classes=tuple(classes),
        preprocessing=preprocessing,
        progress=Progress(epoch=0, batch=0, step=0),
        phase="training",
        metrics={},
        monitored=Monitored(metric="valid_accuracy", mode="max"),
        configuration={
            "weights_file": weights.name,
            "weights_key": foreign.key,
            "seed": seed,
            "initial": [*loaded.initial],
        },
        optimizer=[],
        data=Data(name=IMPORTED, fingerprint=foreign.digest(), source=f"weights file {weights.name}", sizes={}),
        environment=environment(torch.device("cpu")),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        files={},
    )
    run = Run(out)
    run.create()
    with only_writer(out):
        path = run.checkpoints / bundle_name(manifest.progress, manifest.phase)
        stored = Stored(path, write_bundle(path, manifest, {"model": loaded.network.state_dict()}), verified=True)
    return Imported(stored, loaded.matching, loaded.notes)


def is_imported(manifest: Manifest) -> bool:
    """Whether a bundle was made of a weights file, so that it has no data set of its own."""
    return manifest.data.name == IMPORTED and "data" not in manifest.configuration
