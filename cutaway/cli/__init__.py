"""The command line: finds the command, runs it, and turns what goes wrong into a sentence and an exit code."""

from __future__ import annotations

import errno
import importlib
import io
import os
import signal
import sys
import threading
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

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
    "lr-find": Command("lr_finding", "run_lr_find", "Find a learning rate, and draw the curve it is read from."),
    "sweep": Command("sweeping", "run_sweep", "Train every run of a file: a grid, random draws, a list."),
    "sweep show": Command("sweeping", "run_show", "Compare the runs of a sweep."),
    "evaluate": Command("inspecting.evaluate", "run_evaluate", "Tell how well a bundle does, and where it fails."),
    "inspect layers": Command("inspecting.layers", "run_layers", "Print the per-layer table."),
    "inspect capture": Command(
        "inspecting.capturing", "run_capture", "Tell what layers return over a data set, and write it to files."
    ),
    "inspect features": Command("inspecting.features", "run_features", "Write feature maps as pictures."),
    "inspect kernels": Command("inspecting.kernels", "run_kernels", "Draw the kernels of a convolution."),
    "inspect channels": Command(
        "inspecting.channels", "run_channels", "Name dead channels, and show what excites which."
    ),
    "inspect cam": Command("inspecting.cam", "run_cam", "Write overlays of which parts of pictures speak for a class."),
    "inspect histograms": Command("inspecting.histograms", "run_histograms", "Write histograms of weights and more."),
    "inspect attribution": Command(
        "inspecting.attribution", "run_attribution", "Write how much each pixel speaks for a class."
    ),
    "inspect faithfulness": Command(
        "inspecting.faithfulness", "run_faithfulness", "Measure which heat-map to believe, beside random ones."
    ),
    "inspect report": Command("inspecting.report", "run_report", "Write it all into one HTML file."),
    "export": Command("exporting", "run_export", "Export to one ONNX file, verified against PyTorch."),
    "verify": Command("verifying", "run_verify", "Compare an ONNX file with the network it was made of again."),
    "predict": Command("predicting", "run_predict", "Classify pictures with an ONNX file."),
    "serve": Command("serving", "run_serve", "Classify in the browser and over HTTP."),
    "doctor": Command("doctor", "run_doctor", "Tell what is here and what is missing, with what to do."),
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
    {
        "torch",
        "torchvision",
        "safetensors",
        "blake3",
        "tensorboard",
        "matplotlib",
        "sklearn",
        "scipy",
        "torchmetrics",
        "captum",
        "jinja2",
        "onnx",
        "onnxscript",
    }
    | {"onnxruntime", "gradio", "fastapi", "starlette", "uvicorn", "multipart", "httpx", "prometheus_client"}
)
_EXTRAS = {
    "train": "train",
    "lr-find": "train,inspect",
    "sweep": "train",
    "checkpoints": "train",
    "evaluate": "inspect",
    "inspect": "inspect",
    "export": "export",
    "verify": "export",
    "predict": "serve",
    "serve": "serve",
}


def entry_point() -> None:
    """The `cutaway` command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that lacks a letter shows a question mark, and the command goes on.
        sys.stdout.reconfigure(errors="replace")
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Runs one command.

    Returns:
        0 when done, 1 after an error of cutaway's, 2 after wrong usage, 128 and the signal's number after a signal.
    """
    try:
        with _terminable(arguments), _warned_in_words():
            code = _run(list(arguments))
            # Here, where what goes wrong is still told in words.
            sys.stdout.flush()
            return code
    except CutawayError as error:
        complain(f"error: {error.message}", error.hint)
        return 1
    except Interrupted as interruption:
        complain(interruption.said)
        return 128 + interruption.signum
    except KeyboardInterrupt as stop:
        complain("Stopped.")
        return 128 + (signal.SIGTERM if stop.args == (signal.SIGTERM,) else signal.SIGINT)
    except BrokenPipeError:  # the reader went away, as `head` does
        _leave_stdout()
        return 128 + signal.SIGPIPE
    except OSError as error:
        _complain_of_system(error)
        return 1
    except RecursionError:
        complain("error: Something that was read is nested too deeply.", "A file may be damaged, or made to do harm.")
        return 1
    except ModuleNotFoundError as error:
        from importlib.metadata import PackageNotFoundError

        if isinstance(error, PackageNotFoundError) or (error.name or "").partition(".")[0] not in _OPTIONAL:
            raise
        extra = _EXTRAS.get(arguments[0], "all")
        complain(
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
    complain(f"error: There is no command '{' '.join(arguments[:2])}'.", f"Known are {', '.join(known)}.")
    return 2


def _overview(commands: dict[str, Command]) -> str:
    width = max(len(name) for name in commands)
    lines = [f"  {name:{width}}  {command.purpose}" for name, command in commands.items()]
    head = "usage: cutaway COMMAND [OPTIONS]\n\nTrain an image classifier, see inside it, and ship it.\n"
    tail = "\n'cutaway COMMAND --help' explains one. Exit codes: 0 done, 1 error, 2 wrong usage."
    return "\n".join([head, *lines, tail])


@contextmanager
def _terminable(arguments: Sequence[str]) -> Iterator[None]:
    """Has SIGTERM unwind a command as Ctrl+C does, so that it removes its temporary files.

    Not for the commands that end in an order of their own.
    """
    own_order = list(arguments[:1]) in (["train"], ["serve"])
    if own_order or threading.current_thread() is not threading.main_thread():
        yield
        return

    # KeyboardInterrupt itself, which no `except Exception` keeps and which subprocess and asyncio know by its type.
    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(signum)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _warned_in_words() -> Iterator[None]:
    """Has what our own code warns of told in a sentence, without the line of code that a person in Python needs."""
    own = Path(__file__).parent.parent
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], filename: str, *others: Any, **named: Any) -> None:
            if category is UserWarning and Path(filename).is_relative_to(own):
                complain(str(message))
            else:
                shown(message, category, filename, *others, **named)

        warnings.showwarning = show
        yield


def _complain_of_system(error: OSError) -> None:
    """A full disk, a folder that may not be written to, a file where a folder is needed."""
    why = error.strerror or str(error) or type(error).__name__
    place = error.filename2 if error.filename2 is not None else error.filename
    if place is None:
        complain(f"error: {why}.")
    else:
        hint = "A folder is needed there." if error.errno in (errno.EEXIST, errno.ENOTDIR) else ""
        complain(f"error: {os.fsdecode(place) if isinstance(place, bytes) else place}: {why}.", hint)
    try:
        sys.stdout.flush()
    except OSError:
        _leave_stdout()


def _leave_stdout() -> None:
    """Python would complain once more when it closes a stdout that takes nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(sentence: str, hint: str = "") -> None:
    """Says on stderr what went wrong, and what to do next."""
    print(f"cutaway: {printable(sentence)}", file=sys.stderr)
    if hint:
        print(f"  {printable(hint)}", file=sys.stderr)


def printable(text: str) -> str:
    """Text from a stranger without what could steer a terminal or cannot be encoded."""
    return "".join(char if is_harmless(char) or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def is_harmless(char: str) -> bool:
    """Whether a character only shows: no control, no change of direction, no surrogate; spaces of all widths do."""
    return char.isprintable() or unicodedata.category(char) == "Zs"
