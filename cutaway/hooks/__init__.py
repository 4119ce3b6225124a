"""Looking into a network while it runs, and leaving it as it was found."""

from cutaway.hooks.captured import Call, Capture
from cutaway.hooks.capturing import capture
from cutaway.hooks.mixing import layers_over_batches, why_alone
from cutaway.hooks.naming import find_module, named_modules
from cutaway.hooks.operations import OperationCall, watch_operations
from cutaway.hooks.restoring import require_initialized, seed_torch, untouched
from cutaway.hooks.shape_runs import (
    refused,
    run_on_inputs,
    run_on_shapes,
    run_with,
    without_attention_fast_path,
    without_values,
)
from cutaway.hooks.statistics import ChannelMoments, Statistics, StreamingStatistics
from cutaway.hooks.structures import map_tensors

__all__ = [
    "Call",
    "Capture",
    "ChannelMoments",
    "OperationCall",
    "Statistics",
    "StreamingStatistics",
    "capture",
    "find_module",
    "layers_over_batches",
    "map_tensors",
    "named_modules",
    "refused",
    "require_initialized",
    "run_on_inputs",
    "run_on_shapes",
    "run_with",
    "seed_torch",
    "untouched",
    "watch_operations",
    "why_alone",
    "without_attention_fast_path",
    "without_values",
]
