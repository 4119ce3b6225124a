"""Where a bundle is made: versions, device, threads and the commit; never a path or the name of the machine."""

from __future__ import annotations

import platform
import shutil
import subprocess

import torch
import torchvision

import cutaway
from cutaway.checkpoints.manifest import Environment


def environment(device: torch.device) -> Environment:
    """Describes this process and its device."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    versions = {
        "cutaway": cutaway.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
    }
    if device.type == "cuda":
        versions |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}  # type: ignore[no-untyped-call]
    return Environment(
        versions=versions,
        device=name,
        threads=torch.get_num_threads(),
        platform=f"{platform.system()} {platform.machine()}",
        commit=_commit(),
    )


def _commit() -> str | None:
    """The git commit of the folder that a person works in, with a plus where files differ from it."""
    git = shutil.which("git")
    if git is None:
        return None

    def ask(*arguments: str) -> str | None:
        done = subprocess.run([git, *arguments], capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
        return done.stdout.strip() if done.returncode == 0 else None

    head = ask("rev-parse", "HEAD")
    return head and head + ("+" if ask("status", "--porcelain", "--untracked-files=no") else "")
