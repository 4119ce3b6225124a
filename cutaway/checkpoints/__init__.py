"""Bundles: written whole, read verified, and turned back into networks."""

from cutaway.checkpoints.bundle import read_tensors, verify_bundle, write_bundle
from cutaway.checkpoints.manifest import Manifest
from cutaway.checkpoints.restoring import Restored, restore
from cutaway.checkpoints.runs import Run, Stored, best_of, find

__all__ = [
    "Manifest",
    "Restored",
    "Run",
    "Stored",
    "best_of",
    "find",
    "read_tensors",
    "restore",
    "verify_bundle",
    "write_bundle",
]
