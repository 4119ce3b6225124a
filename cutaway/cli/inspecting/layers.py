"""`cutaway inspect layers`: the per-layer table."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from cutaway.cli.arguments import parse
from cutaway.cli.inspecting.fitting_layers import print_fitting
from cutaway.cli.inspecting.reading import Reading, ReadingOptions
from cutaway.cli.own_code import permitted
from cutaway.errors import CutawayError, NetworkError, SettingsError
from cutaway.settings.recipe import Optimizer

if TYPE_CHECKING:
    from torch import nn

    from cutaway.checkpoints import Restored
    from cutaway.inspect import TrainingMemory
    from cutaway.inspect.layers.training_memory import Making

TableForm = Literal["rich", "json", "csv", "md", "html"]
_SIDE = 224
_LARGEST_BATCH = 1_000_000
_CLASSES = {
    "adadelta": "Adadelta",
    "adagrad": "Adagrad",
    "adam": "Adam",
    "adamax": "Adamax",
    "adamw": "AdamW",
    "nadam": "NAdam",
    "radam": "RAdam",
    "rmsprop": "RMSprop",
    "sgd": "SGD",
}

_COLUMNS = (
    "Columns in this order, of order, layer, type, input, output, parameters, trainable, frozen, buffers, bytes, macs, "
    "activations, field, stride, offset, dtype, device, calls."
)


@dataclass(frozen=True)
class LayersOptions:
    """Print the per-layer table of a bundle's network, or of any network by its name."""

    reference: tyro.conf.Positional[str]
    """A run (its best bundle), RUN@last, RUN@STEP, a bundle's directory; or a network's name, such as
    torchvision:resnet18 or python:MODULE:FACTORY."""
    input: Annotated[tuple[int, int, int] | None, tyro.conf.arg(metavar="C H W")] = None
    """Channels, height and width of a picture; by default what the bundle or the network was made for."""
    num_classes: int = 1000
    """Of a network by its name."""
    batch_size: int | None = None
    """Pictures that shapes, MACs and memory are counted for; by default 1, but for the memory of training the run's own
    batch."""
    nested: bool = False
    """Show the modules as a tree, with operations that are only views."""
    operations: bool = True
    """Give what modules call but is no module, such as F.relu and +, rows of its own."""
    depth: int | None = None
    """Count what lies deeper to the module around it: 1 for the network's children alone."""
    columns: Annotated[tuple[str, ...], tyro.conf.arg(help=_COLUMNS)] = ()
    optimizer: Optimizer | None = None
    """Estimate the memory of training with it; by default with the run's own."""
    format: TableForm = "rich"
    """How to print it."""
    json: bool = False
    """The same as --format json."""
    reading: Reading = field(default_factory=ReadingOptions)


def run_layers(arguments: Sequence[str]) -> None:
    """Prints the table."""
    options = parse(LayersOptions, "inspect layers", arguments)
    if options.batch_size is not None and options.batch_size < 1:
        raise SettingsError(f"--batch-size must be at least 1, not {options.batch_size}.")
    if options.depth is not None and options.depth < 0:
        raise SettingsError(f"--depth must be at least 0, not {options.depth}.")
    if options.input is not None and min(options.input) < 1:
        raise SettingsError(f"--input must be three numbers from 1, not {' '.join(map(str, options.input))}.")

    restored = None
    if is_network(options.reference):
        network, shape = named_network(options.reference, options.input, options.num_classes, options.reading)
    else:
        _require_no_near_name(options.reference)
        restored = options.reading.restore(options.reference)
        network, shape = restored.network, options.input or restored.spec.input_shape
    print_table(
        network,
        shape,
        optimizer=_optimizer_of(network, restored, options.optimizer),
        batch_size=options.batch_size or 1,
        trained_at=options.batch_size or _batch_size_of(restored),
        nested=options.nested,
        operations=options.operations,
        depth=options.depth,
        columns=options.columns,
        form="json" if options.json else options.format,
    )


def show_layers(restored: Restored) -> None:
    """Prints the per-layer table of a bundle."""
    print_table(restored.network, restored.spec.input_shape)


def is_network(reference: str) -> bool:
    """Whether a reference is no bundle's but a network's name; where there is a file of that name, it is a bundle's."""
    from cutaway.networks import names
    from cutaway.networks.own import FACTORY
    from cutaway.networks.registry import TORCHVISION

    if Path(reference).exists():
        return False
    return reference.startswith((FACTORY, TORCHVISION)) or reference in names()


def _require_no_near_name(reference: str) -> None:
    """Tells of a network's name that is nearly right, such as resnet18 without torchvision's prefix."""
    from cutaway.networks import names
    from cutaway.networks.registry import TORCHVISION

    if Path(reference.rpartition("@")[0] or reference).exists() or "/" in reference:
        return
    known = {name.removeprefix(TORCHVISION): name for name in names()}
    near = [known[reference]] if reference in known else []
    near = near or [known[name] for name in difflib.get_close_matches(reference, known, n=3, cutoff=0.75)]
    if near:
        raise NetworkError(
            f"There is no run, bundle or network named '{reference}'.", hint=f"Did you mean {' or '.join(near)}?"
        )


def named_network(
    name: str, shape: tuple[int, int, int] | None, num_classes: int, reading: ReadingOptions
) -> tuple[nn.Module, tuple[int, int, int]]:
    """Builds a network by its name, one of the registry's without memory for its weights; gives its input's shape too.

    Raises:
        SettingsError: The number of classes is below 1.
        NetworkError: It cannot be built, or would run code that was not allowed.
    """
    from cutaway.networks import NetworkSpec, OwnCode, build, build_on_meta, names, usual_image_size

    if not 1 <= num_classes <= 100_000:
        raise SettingsError(f"--num-classes must be from 1 to 100000, not {num_classes}.")
    side = usual_image_size(name) or (28 if name in names() else _SIDE)
    shape = shape or (1 if side == 28 else 3, side, side)
    try:
        spec = NetworkSpec(name=name, num_classes=num_classes, input_shape=shape)
    except ValueError as error:
        raise SettingsError(
            f"--input cannot be {' '.join(map(str, shape))}.", hint="Up to 1024 channels and 16384 pixels."
        ) from error
    own = OwnCode(allowed=permitted(reading.allow_code))
    return (build_on_meta(spec) if name in names() else build(spec, own)), shape


def print_table(
    network: nn.Module,
    shape: tuple[int, int, int],
    *,
    optimizer: Making | None = None,
    batch_size: int = 1,
    trained_at: int = 1,
    nested: bool = False,
    operations: bool = True,
    depth: int | None = None,
    columns: Sequence[str] = (),
    form: TableForm = "rich",
) -> None:
    """Prints the per-layer table of a network, and with what makes an optimizer the memory of training at its batch."""
    from cutaway.inspect import layer_rendering, layer_table
    from cutaway.inspect.layers import fold

    chosen = columns or layer_rendering.USUAL
    named = columns or None
    layer_rendering.check_columns(chosen)
    table = layer_table(network, shape, batch_size, operations=operations)
    if depth is not None:
        table = fold(table, depth)
    memory, notes = (None, []) if optimizer is None else _memory(network, shape, trained_at, optimizer)
    match form:
        case "rich":
            print_fitting(table, columns, notes, nested=nested)
        case "json":
            print(layer_rendering.to_json(table, memory, named))
        case "csv":
            print(layer_rendering.to_csv(table, named), end="")
        case "md":
            print(layer_rendering.to_markdown(table, nested=nested, columns=chosen, notes=notes))
        case "html":
            print(layer_rendering.to_html(table, nested=nested, columns=chosen, notes=notes))


def _memory(
    network: nn.Module, shape: tuple[int, int, int], batch_size: int, optimizer: Making
) -> tuple[TrainingMemory | None, list[str]]:
    """What training takes, and a sentence on it or on why that is not known."""
    from cutaway.inspect import training_memory
    from cutaway.inspect.layer_rendering import memory_sentence

    try:
        memory = training_memory(network, shape, batch_size, optimizer=optimizer)
    except CutawayError as error:
        return None, [f"What training takes is not known: {error.message}"]
    return memory, [memory_sentence(memory)]


def training_memory_of(restored: Restored) -> TrainingMemory | None:
    """What training a bundle's network takes, as its run trained it; None where that is not known."""
    from cutaway.hooks import untouched

    # Frozen parameters are frozen for the count alone.
    with untouched(restored.network):
        making = _optimizer_of(restored.network, restored, None)
        return _memory(restored.network, restored.spec.input_shape, _batch_size_of(restored), making)[0]


def _optimizer_of(network: nn.Module, restored: Restored | None, name: Optimizer | None) -> Making:
    """What makes an optimizer as a bundle's run had it, or another one; parameters that it left alone are frozen."""
    import torch

    from cutaway.settings import TrainSettings

    # Not by `cutaway.train`, which needs more than inspecting does: of all settings only these change what is kept.
    settings = TrainSettings()
    if restored is not None:
        trained = _trained(restored)
        for own, parameter in network.named_parameters():
            parameter.requires_grad_(not trained or own in trained)
        asked = restored.manifest.configuration
        settings = settings.changed(**{key: asked[key] for key in ("optimizer", "momentum") if key in asked})
    chosen = name or settings.optimizer
    making = getattr(torch.optim, _CLASSES[chosen])
    return partial(making, lr=0.1, **({"momentum": settings.momentum} if chosen in ("rmsprop", "sgd") else {}))


def _batch_size_of(restored: Restored | None) -> int:
    """Pictures that went through the network at a time when it was trained; 1 where nothing says so."""
    asked = 1 if restored is None else restored.manifest.configuration.get("batch_size", 1)
    return int(asked) if isinstance(asked, int) and 1 <= asked <= _LARGEST_BATCH else 1


def _trained(restored: Restored) -> set[str]:
    names: set[str] = set()
    for group in restored.manifest.optimizer:
        entries = group.get("params")
        if isinstance(entries, list):
            names.update(map(str, entries))
    return names
