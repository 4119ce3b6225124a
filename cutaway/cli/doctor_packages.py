"""What `cutaway doctor` says of Python, of packages, and of the devices that they compute on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from importlib import import_module, metadata
from typing import Any, NamedTuple

from cutaway import __version__
from cutaway.cli.doctor_findings import ALWAYS, Finding

_PARTS = ("train", "inspect", "export", "serve")
_NVIDIA = "nvidia-smi"


class _Requirement(NamedTuple):
    name: str
    at_least: str
    extra: str


def python() -> Finding:
    """Python, cutaway and the system."""
    said = f"{platform.python_version()} on {platform.system()} {platform.machine()}, with cutaway {__version__}"
    if (3, 11) <= sys.version_info < (3, 14):
        return Finding("Python", "ok", said)
    return Finding("Python", "warning", said, "cutaway is tested with Python 3.11 to 3.13.")


def packages() -> list[Finding]:
    """What each part of cutaway needs, by the requirements that it was installed with."""
    try:
        requirements = [_parsed(text) for text in metadata.requires("cutaway") or ()]
    except metadata.PackageNotFoundError:
        return [Finding("packages", "warning", "cutaway was not installed by pip", "Install it: pip install .")]
    return [
        _of_part("packages", "", requirements),
        *(_of_part(f"packages to {part}", part, requirements) for part in _PARTS),
    ]


def both_runtimes() -> list[Finding]:
    """Whether both kinds of ONNX Runtime are installed, which write the same files."""
    if _version("onnxruntime") is None or _version("onnxruntime-gpu") is None:
        return []
    return [
        Finding(
            "ONNX Runtime",
            "missing",
            "onnxruntime and onnxruntime-gpu are both installed, and write over each other's files",
            "pip uninstall onnxruntime onnxruntime-gpu; then install one of cutaway[serve] and cutaway[serve-gpu].",
            ("serve", "export", "web"),
        )
    ]


def devices() -> Finding:
    """Where PyTorch computes."""
    cores = f"CPU with {os.cpu_count() or 1} cores"
    if _version("torch") is None:
        return Finding("devices", "ok", f"{cores}; PyTorch is not installed, and serving does without")
    torch, broken = _imported("torch")
    if broken is not None:
        return Finding(
            "devices", "missing", f"PyTorch is installed and cannot be loaded: {broken}",
            "pip install --force-reinstall torch torchvision", ("train", "inspect", "export"),
        )  # fmt: skip
    found = [cores]
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(number)
            found.append(f"cuda:{number} {about.name} with {about.total_memory / 1e9:.0f} GB")
    elif shutil.which(_NVIDIA):
        advice = "Install a PyTorch whose CUDA this driver knows; `nvidia-smi` tells the newest one."
        return Finding("devices", "warning", f"{cores}; an NVIDIA driver, but PyTorch finds no GPU", advice)
    if torch.backends.mps.is_available():
        found.append("mps")
    return Finding("devices", "ok", ", ".join(found))


def providers() -> Finding:
    """What ONNX Runtime computes on."""
    name, needed_for = "ONNX Runtime's providers", ("serve", "export", "web")
    install = "pip install 'cutaway[serve]', or 'cutaway[serve-gpu]' for an NVIDIA GPU."
    if _version("onnxruntime") is None and _version("onnxruntime-gpu") is None:
        return Finding(name, "missing", "ONNX Runtime is not installed", install, needed_for)
    onnxruntime, broken = _imported("onnxruntime")
    if broken is not None:
        return Finding(name, "missing", f"ONNX Runtime cannot be loaded: {broken}", install, needed_for)
    there = [provider.removesuffix("ExecutionProvider") for provider in onnxruntime.get_available_providers()]
    if shutil.which(_NVIDIA) and "CUDA" not in there:
        advice = "For the GPU, install cutaway[serve-gpu] in an environment without onnxruntime."
        return Finding(name, "warning", f"{', '.join(there)}; an NVIDIA driver is here, but no CUDA among them", advice)
    return Finding(name, "ok", ", ".join(there))


def _of_part(name: str, extra: str, requirements: list[_Requirement]) -> Finding:
    needed_for = (extra or ALWAYS,)
    found, lacking = [], []
    for requirement in requirements:
        if requirement.extra != extra:
            continue
        version = _version(requirement.name)
        if version is None and requirement.name == "onnxruntime":
            version = _version("onnxruntime-gpu")
        if version is None:
            lacking.append(requirement.name)
        elif _numbers(version) < _numbers(requirement.at_least):
            lacking.append(f"{requirement.name} {requirement.at_least} (here is {version})")
        else:
            found.append(f"{requirement.name} {version}")
    if not lacking:
        return Finding(name, "ok", ", ".join(found), needed_for=needed_for)
    install = f"pip install 'cutaway[{extra}]'" if extra else "pip install --upgrade cutaway"
    return Finding(name, "missing", f"without {', '.join(lacking)}", install, needed_for)


def _parsed(text: str) -> _Requirement:
    """`torch>=2.13; extra == "train"`."""
    name = re.match(r"[\w.-]+", text)
    at_least = re.search(r">=\s*([\d.]+)", text.partition(";")[0])
    extra = re.search(r"""extra\s*==\s*["']([\w-]+)["']""", text)
    return _Requirement(name[0] if name else text, at_least[1] if at_least else "0", extra[1] if extra else "")


def _numbers(version: str) -> tuple[int, ...]:
    """`2.13.0+cu126` -> (2, 13)."""
    numbers = [int(part) for part in re.findall(r"\d+", re.split(r"[+a-z]", version)[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _imported(package: str) -> tuple[Any, str | None]:
    """A package, or why it does not load."""
    try:
        return import_module(package), None
    except Exception as error:  # noqa: BLE001 - a broken installation raises whatever it likes
        return None, " ".join(f"{type(error).__name__}: {error}".split())[:300]
