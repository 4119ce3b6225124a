"""Attribution by taking parts of the picture away; needs no gradients."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from cutaway.errors import InspectionError
from cutaway.inspect.attribution.baselines import Baseline, BaselineKind, make_baseline
from cutaway.inspect.attribution.result import Attribution
from cutaway.inspect.attribution.segments import grid_segments, slic_segments
from cutaway.inspect.attribution.subject import AT_A_TIME, ClassIndex, Subject, prepared
from cutaway.preprocessing import Preprocessing

Segments = Literal["grid", "slic"]


def occlusion(
    network: nn.Module,
    inputs: Tensor,
    class_index: ClassIndex = -1,
    *,
    window: int | None = None,
    stride: int | None = None,
    baseline: BaselineKind | Tensor | Baseline = "mean",
    preprocessing: Preprocessing | None = None,
    at_a_time: int = AT_A_TIME,
) -> Attribution:
    """How much the logit falls when a square window covers the pixel, the mean over the windows that do.

    After Zeiler and Fergus, arXiv:1311.2901, section 4.2. All channels are covered together, and share the fall
    equally.

    Args:
        network: Any classifier that returns logits [N, K].
        inputs: float [N, C, H, W], preprocessed.
        class_index: The class to explain, one for all pictures or one for each; -1 is a picture's top class.
        window: Side of the window in pixels; a seventh of the picture's shorter side by default.
        stride: Between windows in pixels; half a window by default.
        baseline: What covers, as `make_baseline` takes it.
        preprocessing: Of the pictures, for a black or white baseline.
        at_a_time: The most pictures that go through the network together.

    Raises:
        InspectionError: There is no such class, or the window doesn't fit.
    """
    height, width = inputs.shape[-2:] if inputs.dim() == 4 else (1, 1)
    window = usual_window(height, width)[0] if window is None else window
    stride = max(1, window // 2) if stride is None else stride
    if not (1 <= window <= min(height, width) and 1 <= stride <= window):
        raise InspectionError(
            f"A window of {window} pixels every {stride} does not cover a picture of {width}x{height} pixels.",
            hint="The window fits into the picture, and the stride into the window.",
        )
    from captum.attr import Occlusion

    with prepared(network, inputs, class_index, purpose="Occlusion", gradients=False, at_a_time=at_a_time) as subject:
        nothing = make_baseline(subject.inputs, baseline, preprocessing)
        shape = (subject.inputs.shape[1], window, window)
        found = _ablated(
            subject,
            Occlusion(subject.logits_at),
            nothing,
            lambda part: {"sliding_window_shapes": shape, "strides": (shape[0], stride, stride)},
        )
        return Attribution(
            "occlusion", found, subject.logits, subject.classes, "sum", nothing.name, alone=subject.alone
        )


def usual_window(height: int, width: int) -> tuple[int, int]:
    """Side and stride of the window that `occlusion` takes by default."""
    window = max(1, round(min(height, width) / 7))
    return window, max(1, window // 2)


def feature_ablation(
    network: nn.Module,
    inputs: Tensor,
    class_index: ClassIndex = -1,
    *,
    segments: Segments | Tensor = "grid",
    baseline: BaselineKind | Tensor | Baseline = "mean",
    preprocessing: Preprocessing | None = None,
    at_a_time: int = AT_A_TIME,
) -> Attribution:
    """How much the logit falls when a segment of the picture is taken away; every pixel of it carries the whole fall.

    Args:
        network: Any classifier that returns logits [N, K].
        inputs: float [N, C, H, W], preprocessed.
        class_index: The class to explain, one for all pictures or one for each; -1 is a picture's top class.
        segments: `grid` (7 x 7), `slic` (about 50 superpixels, by scikit-image), or int64 [N or 1, 1, H, W].
        baseline: What stands in a segment's place, as `make_baseline` takes it.
        preprocessing: Of the pictures, for a black or white baseline.
        at_a_time: The most pictures that go through the network together.

    Raises:
        InspectionError: There is no such class, the segments don't fit, or scikit-image is not installed.
    """
    from captum.attr import FeatureAblation

    with prepared(
        network, inputs, class_index, purpose="Feature ablation", gradients=False, at_a_time=at_a_time
    ) as subject:
        nothing = make_baseline(subject.inputs, baseline, preprocessing)
        mask = _mask(segments, subject.inputs)
        found = _ablated(
            subject,
            FeatureAblation(subject.logits_at),
            nothing,
            lambda part: {"feature_mask": mask[part] if len(mask) > 1 else mask},
        )
        return Attribution(
            "feature-ablation", found, subject.logits, subject.classes, "sum", nothing.name, alone=subject.alone
        )


def _ablated(subject: Subject, method: Any, nothing: Baseline, options: Any) -> Tensor:
    """What captum finds; each channel of a pixel gets the fall of all of them, which is shared out here."""
    found = []
    for index in range(len(subject.inputs)):
        part = slice(index, index + 1)
        found.append(
            method.attribute(
                subject.inputs[part],
                baselines=nothing.values[part],
                target=subject.classes[part],
                perturbations_per_eval=subject.at_a_time,
                **options(part),
            )
        )
    return torch.cat(found).to(subject.inputs.dtype) / subject.inputs.shape[1]


def _mask(segments: Segments | Tensor, inputs: Tensor) -> Tensor:
    if isinstance(segments, Tensor):
        fits = segments.dim() == 4 and segments.shape[1] == 1 and segments.shape[2:] == inputs.shape[2:]
        if not fits or segments.is_floating_point() or len(segments) not in (1, len(inputs)) or segments.min() < 0:
            raise InspectionError(
                f"Segments are numbers from 0 up, int64 [{len(inputs)} or 1, 1, {inputs.shape[2]}, {inputs.shape[3]}], "
                f"not {segments.dtype} {list(segments.shape)}."
            )
        return segments.to(inputs.device)
    if segments == "slic":
        return slic_segments(inputs)
    return grid_segments(inputs, min(7, inputs.shape[2]), min(7, inputs.shape[3]))
