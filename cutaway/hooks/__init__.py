"""Looking into a network while it runs, and leaving it as it was found."""

from cutaway.hooks.capturing import Call, Capture, capture, map_tensors
from cutaway.hooks.restoring import untouched
from cutaway.hooks.shape_runs import run_on_shapes, without_attention_fast_path

__all__ = ["Call", "Capture", "capture", "map_tensors", "run_on_shapes", "untouched", "without_attention_fast_path"]
