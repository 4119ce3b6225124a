"""`cutaway doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import tyro

from cutaway.cli.arguments import parse
from cutaway.cli.doctor_findings import Finding
from cutaway.cli.terminal import say, say_json
from cutaway.errors import CutawayError


@dataclass(frozen=True)
class DoctorOptions:
    """Tell what is here and what is missing on this machine, with what to do; works with the bare package."""

    needs: tuple[Literal["train", "inspect", "export", "serve", "web"], ...] = ()
    """What you want to do here: whatever of it is missing makes the exit code 1."""
    port: int = 7860
    """Port that is to be free for the page."""
    json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON."""


def run_doctor(arguments: Sequence[str]) -> None:
    """Prints a line for each thing that was looked at; ends with an error where something needed is missing."""
    options = parse(DoctorOptions, "doctor", arguments)
    findings = _looked_at(options.port)
    missing = [found for found in findings if found.is_missing_for(options.needs)]
    if options.json:
        told = [{key: value for key, value in asdict(found).items() if key != "needed_for"} for found in findings]
        say_json({"ok": not missing, "findings": told})
    else:
        for found in findings:
            say(f"{found.status:8} {found.name}: {found.said}")
            if found.todo:
                say(f"{'':8} {found.todo}")
    if missing:
        raise CutawayError(
            f"{', '.join(found.name for found in missing)}: not all that is needed is here.",
            hint=missing[0].todo,
        )


def _looked_at(port: int) -> list[Finding]:
    from cutaway.cli.doctor_machine import browsers, data_sets, disks, npm, ports
    from cutaway.cli.doctor_packages import both_runtimes, devices, packages, providers, python

    return [
        python(),
        *packages(),
        *both_runtimes(),
        devices(),
        providers(),
        *data_sets(),
        browsers(),
        npm(),
        ports(port),
        *disks(),
    ]
