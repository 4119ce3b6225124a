"""From a reference back to a network, with its classes and preprocessing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from cutaway.checkpoints.bundle import read_tensors, tensor_shapes, verify_bundle
from cutaway.checkpoints.finite import check_finite
from cutaway.checkpoints.manifest import Manifest
from cutaway.checkpoints.matching import Matching, describe, match, render
from cutaway.checkpoints.runs import Run, Stored, Which, beside_others, find
from cutaway.errors import BundleError, DamagedBundleError
from cutaway.networks import NetworkSpec, OwnCode, build, build_on_meta
from cutaway.networks.own import Network
from cutaway.preprocessing import Preprocessing

# What averaged weights are called in a bundle's training file: this before their own names. `model.safetensors` holds
# the weights that training goes on with.
AVERAGED = "ema/"


@dataclass(frozen=True)
class Restored:
    """A network as it was saved, and what goes with it.

    Attributes:
        network: With the averaged weights where the bundle has some; in evaluation mode, on the device that was asked
            for.
        spec: How it was built.
        classes: The label names in output order.
        preprocessing: From decoded pixels to its input.
        manifest: Everything that its bundle says.
        path: The bundle.
    """

    network: nn.Module = field(repr=False)
    spec: NetworkSpec
    classes: tuple[str, ...] = field(repr=False)
    preprocessing: Preprocessing = field(repr=False)
    manifest: Manifest = field(repr=False)
    path: Path


def restore(
    reference: str | Path,
    *,
    network: Network | None = None,
    allow_code: Collection[str] = (),
    device: torch.device | str = "cpu",
    prefer: Which = "best",
    allow_nan: bool = False,
) -> Restored:
    """Gives back the network that a person named, after every byte of its bundle was compared with its hash.

    Args:
        reference: A bundle's path, `RUN`, `RUN@best`, `RUN@last` or `RUN@STEP`.
        network: Where the bundle is of a person's own network: a module of the same shapes, or what builds one. It is
            copied, not changed.
        allow_code: Or the modules whose factories may be imported, since a bundle alone never chooses code to run.
        device: Where the network is put.
        prefer: What a bare `RUN` means.
        allow_nan: Take weights that are NaN or infinite as they are.

    Raises:
        BundleError: It is not there, damaged, or its tensors are not numbers or don't fit the network that it names.
        NetworkError: This cutaway cannot build the network that it names, or would have to run code to do so.
    """
    stored = find(reference, prefer=prefer)
    try:
        manifest = verify_bundle(stored.path)
    except DamagedBundleError as error:
        raise beside_others(error, Run(stored.path.parent.parent)) from error
    own = OwnCode(network, tuple(allow_code))
    built = build_from(Stored(stored.path, manifest, verified=True), own)
    if not allow_nan:
        check_finite(built.state_dict(), stored.path)
    return Restored(
        network=built.to(device).eval(),
        spec=manifest.network,
        classes=manifest.classes,
        preprocessing=manifest.preprocessing,
        manifest=manifest,
        path=stored.path,
    )


def build_from(stored: Stored, own: OwnCode | None = None, *, averaged: bool = True) -> nn.Module:
    """Builds a bundle's network with its weights, on the CPU and in training mode; leaves the generators alone.

    Args:
        stored: The bundle.
        own: Permission to build a person's own network.
        averaged: Take the averaged weights where the bundle has some, as everything does but training itself.

    Raises:
        BundleError: The weights don't fit the network that the manifest describes, or the manifest itself.
    """
    file, prefix = ("training", AVERAGED) if averaged and has_average(stored) else ("model", "")
    matching = _match(stored, own, file, prefix)
    if len(stored.manifest.classes) != stored.manifest.network.num_classes:
        raise BundleError(
            f"{stored.path} names {len(stored.manifest.classes)} classes for a network with "
            f"{stored.manifest.network.num_classes} outputs."
        )
    if stored.manifest.preprocessing.input_shape != stored.manifest.network.input_shape:
        raise BundleError(f"The preprocessing of {stored.path} does not give the input that its network takes.")
    tensors = read_tensors(stored.path, stored.manifest, file, verified=stored.verified)
    with torch.random.fork_rng(devices=[]):
        network = build(stored.manifest.network, own)
    # Into its own state dict, which carries the versions of its modules: MNASNet loads none without.
    state = network.state_dict()
    state.update({pair.name: tensors[prefix + pair.found_name] for pair in matching.loadable})
    network.load_state_dict(state)
    return network


def has_average(stored: Stored) -> bool:
    """Whether a bundle holds an average of its weights beside the weights themselves."""
    if "training.safetensors" not in stored.manifest.files:
        return False
    return any(name.startswith(AVERAGED) for name in tensor_shapes(stored.path, "training"))


def _match(stored: Stored, own: OwnCode | None, file: str, prefix: str) -> Matching:
    """Compares names, shapes and types on `meta`, so that a manifest cannot ask for more than its files hold."""
    name = stored.manifest.network.name
    expected = describe(build_on_meta(stored.manifest.network, own).state_dict())
    shapes = tensor_shapes(stored.path, file)
    matching = match(expected, {key.removeprefix(prefix): shapes[key] for key in shapes if key.startswith(prefix)})
    if not matching.is_exact:
        raise BundleError(
            f"The weights of {stored.path} don't fit the {name} that its manifest describes:\n{render(matching)}",
            hint="Its weights can go into another network: cutaway checkpoints import --weights "
            f"{stored.path / 'model.safetensors'}",
        )
    return matching
