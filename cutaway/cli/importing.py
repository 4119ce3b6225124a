"""`cutaway checkpoints import` and `to-pth`: weights from elsewhere, and back there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from cutaway.cli.arguments import parse, require_seed
from cutaway.cli.model_facts import IMAGENET, classes_named, is_imagenet, preprocessing_named, preprocessing_of
from cutaway.cli.terminal import as_bytes, say, say_json
from cutaway.errors import SettingsError

if TYPE_CHECKING:
    from cutaway.preprocessing.spec import Preprocessing

_LARGEST_SIDE = 4096


@dataclass(frozen=True)
class ImportOptions:
    """Make a bundle of weights from a .pth, .pt or .safetensors file; it is inspected, exported and served like any."""

    weights: Path
    """A state dict or training checkpoint of PyTorch, or safetensors; also as the first word. Nothing in it is run."""
    network: str
    """The network to build, such as torchvision:resnet18."""
    classes: str | None = None
    """Labels in the order of the outputs: a,b,c, or a file with one a line, or imagenet for ImageNet's 1000; never
    guessed."""
    preprocessing: str | None = None
    """What the weights were trained on: imagenet, or a YAML or JSON file with size, mean, std and so on."""
    image_size: int | None = None
    """Side of the input in pixels: without --preprocessing, or another one for imagenet."""
    mean: tuple[float, ...] = ()
    """Per channel, of pixels between 0 and 1; one value for grey pictures, three for colour."""
    std: tuple[float, ...] = ()
    """Likewise."""
    out: Path = Path("runs/imported")
    """The run's directory."""
    network_arguments: str = "{}"
    """Arguments of the network as JSON, such as '{"width": 32}'."""
    key: str | None = None
    """Where in a nested checkpoint the weights are; found by default."""
    strip_prefix: str = ""
    """What the names in the file begin with; module. and _orig_mod. are understood without."""
    partial: bool = False
    """Load what fits and leave the rest at its initial values."""
    seed: int = 0
    """Of those initial values."""
    allow_nan: bool = False
    """Take weights that are NaN or infinite."""
    json: bool = False
    """Print JSON."""


@dataclass(frozen=True)
class ToPthOptions:
    """Write a bundle's weights as PyTorch's plain state dict: the one file in pickle's format that cutaway writes."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, or a bundle's directory."""
    out: Path
    """The file, such as model.pth."""


def run_import(arguments: Sequence[str]) -> None:
    """Makes a bundle and says how the weights were read."""
    if arguments and not arguments[0].startswith("-"):
        # As every other command takes what it is about.
        arguments = ["--weights", *arguments]
    options = parse(ImportOptions, "checkpoints import", arguments)
    from cutaway.checkpoints.importing import import_weights
    from cutaway.networks.pretrained import expects_other_pixels
    from cutaway.settings.labels import distinct

    require_seed(options.seed)
    if options.classes is None:
        raise SettingsError(
            f"Nothing says what the outputs of {options.network} stand for.",
            hint=f"Give --classes a,b,c or --classes FILE, or --classes {IMAGENET} for ImageNet's 1000.",
        )
    labels = classes_named(options.classes)
    classes = distinct(labels)
    made = import_weights(
        options.weights,
        options.out,
        network=options.network,
        classes=classes,
        preprocessing=preprocessing_for(
            options.network, options.preprocessing, image_size=options.image_size, mean=options.mean, std=options.std
        ),
        arguments=arguments_of(options.network_arguments),
        key=options.key,
        strip_prefix=options.strip_prefix,
        partial=options.partial,
        seed=options.seed,
        allow_nan=options.allow_nan,
    )
    notes = [*made.notes]
    renamed = [name for name, label in zip(classes, labels, strict=True) if name != label]
    if renamed:
        notes.append(f"Labels that were there before have a number now: {', '.join(renamed)}.")
    if expects_other_pixels(options.network) and options.preprocessing == IMAGENET and not options.mean:
        scaled = "--mean 0.5 0.5 0.5 --std 0.5 0.5 0.5"
        notes.append(f"torchvision's own weights of {options.network} expect other pixels than {IMAGENET}'s: {scaled}.")
    matching = made.matching
    if options.json:
        loaded = {"loaded": len(matching.loadable), "of": matching.num_expected}
        say_json({"path": str(made.stored.path), "bytes": made.stored.bytes, **loaded, "notes": notes})
        return
    say(f"loaded {len(matching.loadable)} of {matching.num_expected} tensors into {options.network}")
    for note in notes:
        say(note)
    say(f"bundle {made.stored.path}, {as_bytes(made.stored.bytes)}")


def run_to_pth(arguments: Sequence[str]) -> None:
    """Writes the file."""
    options = parse(ToPthOptions, "checkpoints to-pth", arguments)
    from cutaway.checkpoints.foreign import to_pth

    stored = to_pth(options.reference, options.out)
    say(f"wrote {options.out}, {as_bytes(options.out.stat().st_size)}, with the weights of {stored.path}")


def preprocessing_for(
    network: str,
    described: str | None,
    *,
    image_size: int | None = None,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
) -> Preprocessing:
    """The description that a person gives.

    Args:
        network: Its name.
        described: `imagenet`, or a YAML or JSON file.
        image_size: Side in pixels.
        mean: Per channel.
        std: Per channel.

    Raises:
        SettingsError: They give none, two, or one that is not valid.
    """
    from cutaway.networks import usual_image_size

    if image_size is not None and not 1 <= image_size <= _LARGEST_SIDE:
        raise SettingsError(f"--image-size must lie between 1 and {_LARGEST_SIDE}, not {image_size}.")
    values: dict[str, Any]
    if described is not None and is_imagenet(described):
        usual = preprocessing_named(described, image_size or usual_image_size(network) or 224)
        values = usual.model_dump() | ({"mean": mean} if mean else {}) | ({"std": std} if std else {})
    elif described is not None:
        if image_size or mean or std:
            raise SettingsError(
                f"--image-size, --mean and --std don't go with the file {described}.", hint="Write them into the file."
            )
        return preprocessing_named(described)
    elif image_size and mean and std:
        values = {"size": (image_size, image_size), "mean": mean, "std": std}
        values |= {"color": "grey" if len(mean) == 1 else "rgb"}
    else:
        raise SettingsError(
            "The weights' file does not say what pictures they were trained on.",
            hint="Give --preprocessing imagenet, --preprocessing FILE, or --image-size, --mean and --std.",
        )
    return preprocessing_of(values)


def arguments_of(text: str) -> dict[str, Any]:
    """The arguments of a network in an option's JSON.

    Raises:
        SettingsError: It is none.
    """
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"--network-arguments is not valid JSON: {text}.") from error
    if not isinstance(arguments, dict):
        raise SettingsError(
            f"--network-arguments must be a JSON object, not {text}.", hint="Such as '{\"width\": 32}'."
        )
    return arguments
