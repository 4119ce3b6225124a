"""Options of `cutaway export` that leave each other nothing to do: told at once, and never ignored in silence."""

from __future__ import annotations

from collections.abc import Iterator

from cutaway.cli.export_options import ExportOptions
from cutaway.errors import SettingsError

_DEFAULT = ExportOptions()
_LEAVE_OUT = "Leave one of them out."
_NAME_DATA = "Name them: --data folder:PATH."


def refuse_combinations(options: ExportOptions) -> None:
    """Says which of the options has no meaning beside the others, before anything is read.

    Raises:
        SettingsError: There is such an option, or one that is out of range.
    """
    for applies, message, hint in (*_of_the_heat_map(options), *_of_forms(options), *_of_pictures(options)):
        if applies:
            raise SettingsError(message, hint=hint)


def _of_the_heat_map(options: ExportOptions) -> Iterator[tuple[bool, str, str]]:
    leaves_out = "and --no-explain leaves it out."
    is_left_out = not options.explain
    yield is_left_out and options.method != _DEFAULT.method, f"--method computes the heat-map, {leaves_out}", _LEAVE_OUT
    yield (
        is_left_out and options.target_layer is not None,
        f"--target-layer is where the heat-map is read, {leaves_out}",
        _LEAVE_OUT,
    )


def _of_forms(options: ExportOptions) -> Iterator[tuple[bool, str, str]]:
    is_plain = options.precision == "fp32" and not options.compare
    of_forms, in_fp32 = "Add --precision or --compare, or leave it out.", "and the file is to be in fp32."
    yield (
        options.compare and options.out is not None,
        "--compare writes no file, so --out has no place beside it.",
        "Leave one of them out; what is best is written with --precision.",
    )
    yield (
        options.compare and options.precision != "fp32",
        f"--compare measures all forms, and --precision {options.precision} makes one.",
        _LEAVE_OUT,
    )
    yield (
        options.compare and options.examples != 0,
        "--compare writes no file, so there is nothing to put --examples beside.",
        _LEAVE_OUT,
    )
    yield (
        options.calibration_pictures < 1,
        f"--calibration-pictures is {options.calibration_pictures}, and at least 1 is needed.",
        "",
    )
    yield (
        options.calibration_pictures != _DEFAULT.calibration_pictures
        and options.precision != "int8"
        and not options.compare,
        f"--calibration-pictures are for int8, and the file is to be in {options.precision}.",
        "Add --precision int8, or leave it out.",
    )
    yield (
        is_plain and options.max_accuracy_drop != _DEFAULT.max_accuracy_drop,
        f"--max-accuracy-drop is what smaller forms are held to, {in_fp32}",
        of_forms,
    )
    yield (
        is_plain and options.provider == "cuda",
        f"--provider is where smaller forms are measured, {in_fp32}",
        f"{of_forms} `cutaway verify FILE RUN --provider cuda` compares a file in fp32 on the GPU.",
    )


def _of_pictures(options: ExportOptions) -> Iterator[tuple[bool, str, str]]:
    is_foreign = options.foreign.network is not None
    without = "needs pictures of known classes, and nothing names any for"
    for option, is_given in (("--calibrate", options.calibrate), ("--examples", options.examples != 0)):
        yield (
            is_foreign and is_given and options.data is None,
            f"{option} {without} {options.foreign.network}.",
            _NAME_DATA,
        )
    needs_classes = options.calibrate or options.examples != 0 or options.compare or options.precision != "fp32"
    yield (
        is_foreign and options.data is not None and bool(options.verify_data) and not needs_classes,
        "--data and --verify-data both name pictures to verify with.",
        _LEAVE_OUT,
    )
