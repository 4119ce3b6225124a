"""From a reference back to a network, with its classes and preprocessing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cutaway.checkpoints.bundle import read_tensors, tensor_shapes, verify_bundle
from cutaway.checkpoints.manifest import Manifest
from cutaway.checkpoints.runs import Stored, Which, find
from cutaway.errors import BundleError
from cutaway.networks import NetworkSpec, build, build_on_meta
from cutaway.preprocessing import Preprocessing

_TYPES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


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


def restore(reference: str | Path, *, device: torch.device | str = "cpu", prefer: Which = "best") -> Restored:
    """Gives back the network that a person named, after every byte of its bundle was compared with its hash.

    Args:
        reference: A bundle's path, `RUN`, `RUN@best`, `RUN@last` or `RUN@STEP`.
        device: Where the network is put.
        prefer: What a bare `RUN` means.

    Raises:
        BundleError: It is not there, damaged, or its tensors don't fit the network that it names.
        NetworkError: This cutaway cannot build the network that it names.
    """
    stored = find(reference, prefer=prefer)
    manifest = verify_bundle(stored.path)
    network = build_from(Stored(stored.path, manifest))
    return Restored(
        network=network.to(device).eval(),
        spec=manifest.network,
        classes=manifest.classes,
        preprocessing=manifest.preprocessing,
        manifest=manifest,
        path=stored.path,
    )


def build_from(stored: Stored) -> nn.Module:
    """Builds a bundle's network on the CPU, in training mode, with the bundle's weights; leaves the generators alone.

    The shapes are compared on `meta` first, so that a manifest cannot ask for more memory than its files hold.
    """
    expected = build_on_meta(stored.manifest.network).state_dict()
    _compare(expected, tensor_shapes(stored.path, "model"), stored)
    if len(stored.manifest.classes) != stored.manifest.network.num_classes:
        raise BundleError(
            f"{stored.path} names {len(stored.manifest.classes)} classes for a network with "
            f"{stored.manifest.network.num_classes} outputs."
        )
    if stored.manifest.preprocessing.input_shape != stored.manifest.network.input_shape:
        raise BundleError(f"The preprocessing of {stored.path} does not give the input that its network takes.")
    tensors = read_tensors(stored.path, stored.manifest, "model")
    with torch.random.fork_rng(devices=[]):
        network = build(stored.manifest.network)
    network.load_state_dict(tensors)
    return network


def _compare(expected: dict[str, Tensor], found: dict[str, tuple[str, tuple[int, ...]]], stored: Stored) -> None:
    name = stored.manifest.network.name
    missing = [key for key in expected if key not in found]
    if missing:
        raise BundleError(f"{stored.path} lacks {len(missing)} tensors of {name}, such as '{missing[0]}'.")
    extra = [key for key in found if key not in expected]
    if extra:
        raise BundleError(f"{stored.path} holds {len(extra)} tensors that {name} has not, such as '{extra[0]}'.")
    for key, tensor in expected.items():
        wanted = (_TYPES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape))
        if found[key] != wanted:
            raise BundleError(
                f"Tensor '{key}' of {stored.path} is {found[key][0]} {list(found[key][1])}; "
                f"{name} needs {wanted[0]} {list(wanted[1])}."
            )
