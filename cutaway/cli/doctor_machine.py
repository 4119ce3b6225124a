"""What `cutaway doctor` says of the machine: data sets, browser, npm, ports, disks."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from pathlib import Path

from cutaway.cli.doctor_findings import ALWAYS, Finding
from cutaway.cli.terminal import as_bytes

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "firefox", "safari", "microsoft-edge")
_CACHE = "disk of the cache"
_OTHER_CACHE = "Name a folder that can be in XDG_CACHE_HOME."
_LITTLE, _TOO_LITTLE = 5 * 10**9, 10**8


def data_sets() -> list[Finding]:
    """Which of the data sets with a name lie here; the sample always does."""
    from cutaway.datasets.builtin import DEBIAN_FASHION_MNIST, found_here

    try:
        places = found_here()
    except OSError as error:
        return [Finding("data sets", "warning", f"{error.filename} cannot be read: {error.strerror}", _OTHER_CACHE)]
    findings = []
    for name, place in places.items():
        if place is not None:
            findings.append(Finding(f"data set {name}", "ok", str(place)))
            continue
        todo = f"`cutaway train --data {name}` downloads it where there is internet."
        if name == "fashion-mnist":
            todo += f" On Debian: apt-get install dataset-fashion-mnist, into {DEBIAN_FASHION_MNIST}."
        findings.append(Finding(f"data set {name}", "missing", "not on this machine", todo))
    return findings


def browsers() -> Finding:
    """A browser for the page; one on another machine will do as well."""
    found = [name for name in _BROWSERS if shutil.which(name)]
    if found:
        return Finding("browser", "ok", ", ".join(found))
    return Finding(
        "browser",
        "warning",
        "none found on the path; the page may be opened from another machine",
        "For the browser tests: apt-get install chromium",
    )


def npm() -> Finding:
    """What fetches ONNX Runtime Web."""
    if shutil.which("npm"):
        return Finding("npm", "ok", "fetches ONNX Runtime Web for `export --web`", needed_for=("web",))
    return Finding(
        "npm",
        "missing",
        "`export --web` cannot fetch ONNX Runtime Web",
        "Install npm, or name an unpacked copy with --web-runtime.",
        ("web",),
    )


def ports(port: int) -> Finding:
    """Whether the page's port is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            said = f"{port} cannot be used: {getattr(error, 'strerror', None) or error}"
            return Finding("port", "warning", said, "Serve on another one: `cutaway serve model.onnx --port 7861`.")
    return Finding("port", "ok", f"{port} is free")


def disks() -> list[Finding]:
    """Room where runs, downloads and temporary files go."""
    from cutaway.datasets.cache import cache_folder

    return [
        _disk("disk here", Path.cwd()),
        _disk(_CACHE, cache_folder()),
        _disk("disk of temporary files", Path(tempfile.gettempdir())),
    ]


def _disk(name: str, folder: Path) -> Finding:
    """How much is free, and whether one may write there; of a folder that is missing yet, where it would be made."""
    there = next(path for path in (folder, *folder.parents) if os.path.exists(path))  # noqa: PTH110 - never raises
    free = shutil.disk_usage(there).free
    said = f"{as_bytes(free)} free at {there}"
    if not os.access(there, os.W_OK):
        said = f"{there} cannot be written to"
        if name == _CACHE:
            return Finding(name, "warning", said, _OTHER_CACHE)
        return Finding(name, "missing", said, "Work in a folder that can be.", (ALWAYS,))
    if free < _TOO_LITTLE:
        return Finding(name, "missing", said, "Free some space.", (ALWAYS,))
    if free < _LITTLE:
        return Finding(name, "warning", said, "PyTorch with CUDA alone takes 5 GB; large runs may not fit.")
    return Finding(name, "ok", said)
