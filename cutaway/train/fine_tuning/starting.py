"""The weights that a person wants a training to begin with: torchvision's, a file's or another run's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from torch import Tensor, nn

from cutaway.checkpoints import Stored, find, read_tensors, verify_bundle
from cutaway.checkpoints.bundle import tensor_shapes
from cutaway.checkpoints.foreign import read_weights
from cutaway.checkpoints.manifest import Manifest
from cutaway.checkpoints.matching import Described, describe, match
from cutaway.checkpoints.restoring import AVERAGED, has_average
from cutaway.errors import SettingsError
from cutaway.networks import NetworkSpec, build_on_meta, usual_image_size
from cutaway.networks.pretrained import fetch, published
from cutaway.networks.registry import TORCHVISION
from cutaway.preprocessing import Preprocessing
from cutaway.preprocessing.spec import Color
from cutaway.settings import TrainSettings

# What changes neither the shape of a weight nor what it means.
_MAY_DIFFER = frozenset({"dropout", "aux_logits"})
_ANY_SIDE = 64


@dataclass(frozen=True)
class Start:
    """Weights to begin with.

    Attributes:
        source: What they are, in words for a sentence.
        shapes: Name -> data type and shape.
        read: Gives the tensors of these names, on the CPU.
        record: What a bundle keeps of where they came from.
        color: Of the pictures that they saw; None where nothing tells.
        seen: All of how those pictures were prepared; None where nothing tells.
        classes: Labels of their head; None where nothing tells.
    """

    source: str
    shapes: Mapping[str, Described]
    read: Callable[[Iterable[str]], dict[str, Tensor]]
    record: dict[str, JsonValue]
    color: Color | None = None
    seen: Preprocessing | None = None
    classes: tuple[str, ...] | None = None


def find_start(settings: TrainSettings) -> Start | None:
    """Opens the weights that the settings name; None where the network begins at random.

    Raises:
        SettingsError: torchvision has no weights for the network.
        NetworkError: There is no such network, or its weights cannot be fetched.
        BundleError: The file or bundle is missing or damaged.
    """
    if settings.pretrained:
        return _of_torchvision(settings)
    if settings.weights is not None:
        return _of_file(settings, settings.weights)
    if settings.init_from is not None:
        return _of_run(settings, settings.init_from)
    return None


def _of_torchvision(settings: TrainSettings) -> Start:
    if not settings.network.startswith(TORCHVISION):
        raise SettingsError(
            f"There are no pretrained weights for {settings.network}.",
            hint="--pretrained goes with --network torchvision:NAME; --weights FILE and --init-from RUN with any.",
        )
    model = settings.network.removeprefix(TORCHVISION)
    weights = published(model)
    tensors = fetch(model)
    return Start(
        f"torchvision's {weights.name}",
        describe(tensors),
        lambda names: {name: tensors[name] for name in names},
        {"torchvision": weights.name},
        color="rgb",
        seen=weights.preprocessing,
        classes=weights.classes,
    )


def _of_file(settings: TrainSettings, path: Path) -> Start:
    foreign = read_weights(path)
    expected, stem = _names_of(settings)
    places = _without_prefix(expected, foreign.shapes)
    shapes = {place: foreign.shapes[there] for place, there in places.items()}
    channels = _input_channels(stem, shapes)
    seen = None
    if channels == 3 and settings.network.startswith(TORCHVISION):
        # Nothing in a file says so, but nearly all that go into torchvision's networks began with torchvision's.
        seen = published(settings.network.removeprefix(TORCHVISION), path.name).preprocessing
    colors: dict[int | None, Color] = {1: "grey", 3: "rgb"}

    def read(names: Iterable[str]) -> dict[str, Tensor]:
        names = list(names)
        tensors = foreign.read(places[name] for name in names)
        return {name: tensors[places[name]] for name in names}

    return Start(str(path), shapes, read, {"file": path.name}, color=colors.get(channels), seen=seen)


def _names_of(settings: TrainSettings) -> tuple[frozenset[str], str | None]:
    """The tensors of the network that the settings name, and the weight of its first convolution."""
    side = settings.image_size or usual_image_size(settings.network) or _ANY_SIDE
    arguments = settings.all_network_arguments()
    network = build_on_meta(
        NetworkSpec(name=settings.network, num_classes=2, input_shape=(3, side, side), arguments=arguments)
    )
    stem = next((f"{name}.weight" for name, module in network.named_modules() if isinstance(module, nn.Conv2d)), None)
    return frozenset(network.state_dict()), stem


def _without_prefix(expected: frozenset[str], found: Iterable[str]) -> dict[str, str]:
    """Names as the network has them -> names as they are in a file; what is no part of the network keeps its name.

    Training programs keep a network inside one of their own, so that all its names begin alike: `backbone.layer1…`.
    """
    beginnings: Counter[str] = Counter()
    names = list(found)
    for name in names:
        place = name
        while place:
            if place in expected:
                beginnings[name.removesuffix(place)] += 1
            place = place.partition(".")[2]
    commonest = max(beginnings, key=lambda beginning: (beginnings[beginning], -len(beginning)), default="")
    return {name.removeprefix(commonest): name for name in names}


def _input_channels(stem: str | None, shapes: Mapping[str, Described]) -> int | None:
    """The channels of the pictures that weights are for; None where the first convolution is not there to tell."""
    if stem is None:
        return None
    matching = match({stem: Described("F32", ())}, shapes, convert=True)
    found = [pair.found.shape for pair in matching.wrong_shape]
    return found[0][1] if found and len(found[0]) == 4 else None


def _of_run(settings: TrainSettings, reference: str) -> Start:
    path = find(reference, prefer="best").path
    manifest = verify_bundle(path)
    _check_same_network(settings, path, manifest)
    # What a person who inspects or exports the bundle gets, too.
    averaged = has_average(Stored(path, manifest, verified=True))
    file, prefix = ("training", AVERAGED) if averaged else ("model", "")
    shapes = {
        name.removeprefix(prefix): Described(*what)
        for name, what in tensor_shapes(path, file).items()
        if name.startswith(prefix)
    }

    def read(names: Iterable[str]) -> dict[str, Tensor]:
        tensors = read_tensors(path, manifest, file, verified=True)
        return {name: tensors[prefix + name] for name in names}

    return Start(
        f"the bundle {path}",
        shapes,
        read,
        {"bundle": manifest.digest()},
        color=manifest.preprocessing.color,
        seen=manifest.preprocessing,
        classes=manifest.classes,
    )


def _check_same_network(settings: TrainSettings, path: Path, manifest: Manifest) -> None:
    theirs, ours = manifest.network, settings.all_network_arguments()
    if theirs.name != settings.network:
        raise SettingsError(
            f"{path} holds a {theirs.name}, not a {settings.network}.", hint=f"Give --network {theirs.name}."
        )
    names = sorted((theirs.arguments.keys() | ours.keys()) - _MAY_DIFFER)
    differing = {
        name: (theirs.arguments.get(name, "its default"), ours.get(name, "its default"))
        for name in names
        if theirs.arguments.get(name) != ours.get(name)
    }
    if differing:
        width = max(len(name) for name in differing)
        table = "\n".join(f"  {name:{width}}  is {its}, here {ours}" for name, (its, ours) in differing.items())
        raise SettingsError(
            f"{path} holds a {theirs.name} with other arguments:\n{table}",
            hint=f"Write network_arguments: {theirs.arguments} into the settings' file.",
        )
