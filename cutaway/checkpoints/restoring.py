"""From a reference back to a network, with its classes and preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from cutaway.checkpoints.bundle import read_tensors, tensor_shapes, verify_bundle
from cutaway.checkpoints.finite import check_finite
from cutaway.checkpoints.manifest import Manifest
from cutaway.checkpoints.matching import Matching, describe, match, render
from cutaway.checkpoints.runs import Stored, Which, find
from cutaway.errors import BundleError
from cutaway.networks import NetworkSpec, build, build_on_meta
from cutaway.preprocessing import Preprocessing


@dataclass(frozen=True)
class Restored:
    """A network as it was saved, and what goes with it.

    Attributes:
        network: In evaluation mode, on the device that was asked for.
        spec: How it was built.
        classes: The label names in output order.
        preprocessing: From decoded pixels to its input.
        manifest: Everything that its bundle says.
        path: The bundle.
    """

    network: nn.Module
    spec: NetworkSpec
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    manifest: Manifest
    path: Path


def restore(
    reference: str | Path, *, device: torch.device | str = "cpu", prefer: Which = "best", allow_nan: bool = False
) -> Restored:
    """Gives back the network that a person named, after every byte of its bundle was compared with its hash.

    Args:
        reference: A bundle's path, `RUN`, `RUN@best`, `RUN@last` or `RUN@STEP`.
        device: Where the network is put.
        prefer: What a bare `RUN` means.
        allow_nan: Take weights that are NaN or infinite as they are.

    Raises:
        BundleError: It is not there, damaged, or its tensors are not numbers or don't fit the network that it names.
        NetworkError: This cutaway cannot build the network that it names.
    """
    stored = find(reference, prefer=prefer)
    manifest = verify_bundle(stored.path)
    network = build_from(Stored(stored.path, manifest, verified=True))
    if not allow_nan:
        check_finite(network.state_dict(), stored.path)
    return Restored(
        network=network.to(device).eval(),
        spec=manifest.network,
        classes=manifest.classes,
        preprocessing=manifest.preprocessing,
        manifest=manifest,
        path=stored.path,
    )


def build_from(stored: Stored) -> nn.Module:
    """Builds a bundle's network with its weights, on the CPU and in training mode; leaves the generators alone."""
    matching = _match(stored)
    if len(stored.manifest.classes) != stored.manifest.network.num_classes:
        raise BundleError(
            f"{stored.path} names {len(stored.manifest.classes)} classes for a network with "
            f"{stored.manifest.network.num_classes} outputs."
        )
    if stored.manifest.preprocessing.input_shape != stored.manifest.network.input_shape:
        raise BundleError(f"The preprocessing of {stored.path} does not give the input that its network takes.")
    tensors = read_tensors(stored.path, stored.manifest, "model", verified=stored.verified)
    with torch.random.fork_rng(devices=[]):
        network = build(stored.manifest.network)
    # Into its own state dict, which carries the versions of its modules: MNASNet loads none without.
    state = network.state_dict()
    state.update({pair.name: tensors[pair.found_name] for pair in matching.loadable})
    network.load_state_dict(state)
    return network


def _match(stored: Stored) -> Matching:
    """Compares names, shapes and types on `meta`, so that a manifest cannot ask for more than its files hold."""
    name = stored.manifest.network.name
    expected = describe(build_on_meta(stored.manifest.network).state_dict())
    matching = match(expected, tensor_shapes(stored.path, "model"))
    if not matching.is_exact:
        raise BundleError(
            f"The weights of {stored.path} don't fit the {name} that its manifest describes:\n{render(matching)}",
            hint="Its weights can go into another network: cutaway checkpoints import --weights "
            f"{stored.path / 'model.safetensors'}",
        )
    return matching
