"""The command line: finds the command, runs it, and turns what goes wrong into a sentence and an exit code."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NamedTuple

from cutaway import __version__
from cutaway.errors import CutawayError, Interrupted


class Command(NamedTuple):
    """A command by its words; its module is imported when it runs, so that `--help` needs no torch."""

    module: str
    function: str
    purpose: str


COMMANDS: dict[str, Command] = {
    "demo": Command("demo", "run_demo", "See it all: train, interrupt, resume, inspect, export, serve."),
    "train": Command("training", "run_train", "Train a network, or go on with a run."),
    "inspect layers": Command("inspecting", "run_layers", "Print the per-layer table."),
    "inspect features": Command("inspecting", "run_features", "Write feature maps as pictures."),
    "inspect cam": Command("inspecting", "run_cam", "Write Grad-CAM overlays of pictures."),
    "inspect histograms": Command("inspecting", "run_histograms", "Write histograms of the weights."),
    "inspect report": Command("inspecting", "run_report", "Write it all into one HTML file."),
    "export": Command("exporting", "run_export", "Export to one ONNX file, verified against PyTorch."),
    "predict": Command("predicting", "run_predict", "Classify pictures with an ONNX file."),
    "serve": Command("serving", "run_serve", "Classify in the browser and over HTTP."),
    "checkpoints list": Command("bundles", "run_list", "List the bundles of a run."),
    "checkpoints show": Command("bundle_details", "run_show", "Print what a bundle says of itself."),
    "checkpoints verify": Command("bundles", "run_verify", "Read every byte of a bundle or run and compare hashes."),
    "checkpoints diff": Command("bundle_details", "run_diff", "Compare settings, metrics and weights of two bundles."),
    "checkpoints prune": Command("bundles", "run_prune", "Remove bundles of a run that are not to be kept."),
    "checkpoints import": Command("importing", "run_import", "Make a bundle of .pth, .pt or .safetensors weights."),
    "checkpoints to-pth": Command("importing", "run_to_pth", "Write a bundle's weights as a plain state dict."),
}


# The packages that extras bring, and the extra that a command needs.
_OPTIONAL = frozenset(
    {"torch", "torchvision", "safetensors", "tensorboard", "matplotlib", "jinja2", "onnx", "onnxscript"}
    | {"onnxruntime", "gradio", "fastapi", "uvicorn", "multipart"}
)
_EXTRAS = {
    "train": "train",
    "checkpoints": "train",
    "inspect": "inspect",
    "export": "export",
    "predict": "serve",
    "serve": "serve",
}


def entry_point() -> None:
    """The `cutaway` command."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Runs one command.

    Returns:
        0 when done, 1 after an error of cutaway's, 2 after wrong usage, 128 and the signal's number after a signal.
    """
    try:
        return _run(list(arguments))
    except CutawayError as error:
        _complain(f"error: {error.message}", error.hint)
        return 1
    except Interrupted as interruption:
        _complain(interruption.said)
        return 128 + interruption.signum
    except KeyboardInterrupt:
        _complain("Stopped.")
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader went away, as `head` does. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _OPTIONAL:
            raise
        extra = _EXTRAS.get(arguments[0], "all")
        _complain(
            f"error: This needs the package '{error.name}', which is not installed.",
            f"pip install 'cutaway[{extra}]' brings it.",
        )
        return 1


def _run(arguments: list[str]) -> int:
    if arguments in (["--version"], ["-V"]):
        print(f"cutaway {__version__}")
        return 0
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if len(arguments) >= words and name in COMMANDS:
            command = COMMANDS[name]
            function = getattr(importlib.import_module(f"cutaway.cli.{command.module}"), command.function)
            function(arguments[words:])
            return 0
    group = arguments[0] if arguments else ""
    known = {name: command for name, command in COMMANDS.items() if name.split()[0] == group} or COMMANDS
    rest = arguments[1:] if known is not COMMANDS else arguments
    if rest in (["--help"], ["-h"]) or not arguments:
        print(_overview(known))
        return 0 if arguments else 2
    _complain(f"error: There is no command '{' '.join(arguments[:2])}'.", f"Known are {', '.join(known)}.")
    return 2


def _overview(commands: dict[str, Command]) -> str:
    width = max(len(name) for name in commands)
    lines = [f"  {name:{width}}  {command.purpose}" for name, command in commands.items()]
    head = "usage: cutaway COMMAND [OPTIONS]\n\nTrain an image classifier, see inside it, and ship it.\n"
    tail = "\n'cutaway COMMAND --help' explains one. Exit codes: 0 done, 1 error, 2 wrong usage."
    return "\n".join([head, *lines, tail])


def _complain(sentence: str, hint: str = "") -> None:
    print(f"cutaway: {printable(sentence)}", file=sys.stderr)
    if hint:
        print(f"  {printable(hint)}", file=sys.stderr)


def printable(text: str) -> str:
    """Text from a stranger without what could steer a terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)
