"""Where `export` and `verify` take a network from: a bundle, or a name and somebody else's weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cutaway.cli.importing import arguments_of, preprocessing_for
from cutaway.cli.model_facts import classes_named
from cutaway.cli.own_code import permitted
from cutaway.errors import SettingsError

if TYPE_CHECKING:
    from torch import nn

    from cutaway.checkpoints import Restored
    from cutaway.checkpoints.foreign import ForeignWeights
    from cutaway.networks import OwnCode
    from cutaway.networks.pretrained import Published
    from cutaway.preprocessing.spec import Preprocessing
    from cutaway.serve.metadata import Metadata

TORCHVISION = "torchvision:"
OWN = "python:"


@dataclass(frozen=True)
class ForeignOptions:
    """In place of a bundle: a network by its name, and weights from elsewhere."""

    network: str | None = None
    """torchvision:NAME, one of cutaway's own, or python:MODULE:FACTORY with --allow-code MODULE."""
    weights: Path | None = None
    """Its weights: a state dict or training checkpoint of PyTorch, or safetensors. Nothing in it is run."""
    pretrained: bool = False
    """torchvision's own weights, from its cache or fetched from where it publishes them."""
    classes: str | None = None
    """Labels in output order: a,b,c, or a file, or imagenet, which is the default of torchvision's networks."""
    preprocessing: str | None = None
    """What the weights know: imagenet, or a JSON or YAML file; by default what torchvision's own of the network do."""
    network_arguments: str = "{}"
    """Arguments of the network as JSON, such as '{"width": 32}'."""
    key: str | None = None
    """Where in a nested checkpoint the weights are; found by default."""
    strip_prefix: str = ""
    """What the names in the file begin with; module. and _orig_mod. are understood without."""


@dataclass(frozen=True)
class Source:
    """A network and what goes with it, wherever it comes from.

    Attributes:
        network: On the CPU.
        preprocessing: From decoded pixels to its input.
        classes: Label names in output order.
        name: Of the network.
        out: Where its file goes by default.
        restored: The bundle; None without one.
        weights: SHA-256 of the file that the weights are from, without a bundle; empty where they came in none.
        notes: What a person should know of how it was made, a sentence each.
    """

    network: nn.Module = field(repr=False)
    preprocessing: Preprocessing
    classes: tuple[str, ...] = field(repr=False)
    name: str
    out: Path
    restored: Restored | None = None
    weights: str = ""
    notes: tuple[str, ...] = ()


def find_source(
    reference: str | None,
    foreign: ForeignOptions,
    *,
    allow_code: tuple[str, ...] = (),
    allow_nan: bool = False,
    exported: Metadata | None = None,
) -> Source:
    """Restores the bundle, or builds the network and loads its weights.

    Args:
        reference: Of a bundle.
        foreign: Or where the network is from without one.
        allow_code: Modules that may be imported.
        allow_nan: Take weights that are NaN or infinite.
        exported: Of a file that was made of the network without a bundle: its classes and its preprocessing are those
            meant where nothing else names any.

    Raises:
        SettingsError: Neither is named, both are, or something about the network is missing.
        CutawayError: The bundle or the weights cannot be read or don't fit.
    """
    if foreign.network is None:
        return _of_bundle(reference, foreign, allow_code=allow_code, allow_nan=allow_nan)
    if reference is not None:
        raise SettingsError(
            f"{reference} and --network {foreign.network} are both named, and one network is wanted.",
            hint="A bundle knows its network: leave --network out, or the bundle.",
        )
    from cutaway.networks import OwnCode

    return _of_name(foreign.network, foreign, OwnCode(None, permitted(allow_code)), allow_nan, exported)


def _of_bundle(
    reference: str | None, foreign: ForeignOptions, *, allow_code: tuple[str, ...], allow_nan: bool
) -> Source:
    if reference is None:
        raise SettingsError(
            "Nothing is named to take a network from.",
            hint="Name a run or a bundle, or a network and its weights: --network torchvision:resnet18 --weights FILE.",
        )
    given = [name for name, value in vars(foreign).items() if value != getattr(ForeignOptions(), name)]
    if given:
        raise SettingsError(
            f"--{given[0].replace('_', '-')} goes with --network, and {reference} is a bundle, which knows its own.",
            hint="Leave one of the two out.",
        )
    from cutaway.checkpoints import restore

    restored = restore(reference, allow_code=permitted(allow_code), allow_nan=allow_nan)
    return Source(
        network=restored.network,
        preprocessing=restored.preprocessing,
        classes=restored.classes,
        name=restored.spec.name,
        out=restored.path.parent.parent / "export" / "model.onnx",
        restored=restored,
    )


def _of_name(name: str, options: ForeignOptions, own: OwnCode, allow_nan: bool, exported: Metadata | None) -> Source:
    from cutaway.checkpoints.foreign_networks import WrongOutputsError, load_network, spec_for
    from cutaway.networks import build

    known, weights = _published(name, options), _weights(name, options)
    classes = _classes(name, options, known, exported)
    preprocessing, notes = _preprocessing(name, options, known, exported)
    spec = spec_for(name, classes, preprocessing, arguments_of(options.network_arguments))
    if weights is None:
        network = build(spec, own)
        notes = [*notes, "The weights are those that the factory gave it."]
    else:
        try:
            loaded = load_network(
                spec, weights, own=own, strip_prefix=options.strip_prefix, may_be_partial=False, allow_nan=allow_nan
            )
        except WrongOutputsError as error:
            if options.classes is not None or exported is not None:
                raise
            raise SettingsError(
                f"{weights.path} has {error.num_outputs} outputs, which are not ImageNet's {len(classes)}, and nothing "
                "says what they stand for.",
                hint=f"Give --classes a,b,c or --classes FILE, with {error.num_outputs} labels in their order.",
            ) from error
        network, notes = loaded.network, [*loaded.notes, *notes]
    return Source(
        network=network.eval(),
        preprocessing=preprocessing,
        classes=classes,
        name=name,
        out=Path(f"{name.rpartition(':')[2]}.onnx"),
        weights="" if weights is None else weights.digest(),
        notes=tuple(notes),
    )


def _weights(name: str, options: ForeignOptions) -> ForeignWeights | None:
    """What is to be loaded; None where a person's own factory brings weights along."""
    from cutaway.checkpoints.foreign import ForeignWeights, read_weights
    from cutaway.checkpoints.matching import describe
    from cutaway.networks.pretrained import cached_file, fetch

    if options.weights is not None and options.pretrained:
        raise SettingsError("--weights and --pretrained both name weights.", hint="Give one of them.")
    if options.weights is not None:
        return read_weights(options.weights, key=options.key)
    for option, value in (("--key", options.key), ("--strip-prefix", options.strip_prefix)):
        if value:
            raise SettingsError(f"{option} says how --weights are named, and no file is.", hint="Leave it out.")
    if options.pretrained:
        model = _model(name, f"There are no pretrained weights for {name}.")
        tensors = fetch(model)
        return ForeignWeights(
            cached_file(model), describe(tensors), lambda names: {name: tensors[name] for name in names}
        )
    if name.startswith(OWN):
        return None
    raise SettingsError(
        f"{name} has no weights.", hint="Give --weights FILE, or --pretrained for those that torchvision publishes."
    )


def _published(name: str, options: ForeignOptions) -> Published | None:
    """What torchvision says of its weights for this network, or of those in a file that has the name of some."""
    from cutaway.networks.pretrained import published

    if not name.startswith(TORCHVISION):
        return None
    return published(_model(name, ""), options.weights.name if options.weights is not None else None)


def _classes(name: str, options: ForeignOptions, known: Published | None, exported: Metadata | None) -> tuple[str, ...]:
    from cutaway.settings.labels import distinct

    if options.classes is not None:
        return distinct(classes_named(options.classes))
    if exported is not None and (known is None or len(known.classes) != len(exported.classes)):
        return exported.classes
    if known is None:
        raise SettingsError(
            f"Nothing says what the outputs of {name} stand for.", hint="Give --classes a,b,c or --classes FILE."
        )
    return distinct(known.classes)


def _preprocessing(
    name: str, options: ForeignOptions, known: Published | None, exported: Metadata | None
) -> tuple[Preprocessing, list[str]]:
    """The description, and what is to be said of where it is from."""
    if options.preprocessing is not None:
        return preprocessing_for(name, options.preprocessing), []
    if known is None and exported is not None:
        return exported.preprocessing, ["Pictures are prepared as the file says; --preprocessing names another way."]
    if known is None:
        raise SettingsError(
            f"Nothing says what pictures {name} was trained on.", hint="Give --preprocessing imagenet or a JSON file."
        )
    note = f"Pictures are prepared as torchvision's {known.name} expect them; --preprocessing names another way."
    return known.preprocessing, [note]


def _model(name: str, otherwise: str) -> str:
    if not name.startswith(TORCHVISION):
        raise SettingsError(otherwise, hint="--pretrained goes with --network torchvision:NAME; --weights with any.")
    return name.removeprefix(TORCHVISION)
