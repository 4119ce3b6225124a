"""Compares an exported file with the network that it came from, on real pictures, before it is called done.

The two sides share as little as possible: the file is run by ONNX Runtime on decoded pixels, in batches; the network
is run by PyTorch one picture at a time, on what PIL and numpy make of the same pixels, with plain autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import torch
from PIL import Image
from torch import Tensor

from cutaway.errors import ExportError
from cutaway.preprocessing.spec import Pixels, Preprocessing
from cutaway.progress import Track, silent

Floats = npt.NDArray[np.float32]

Reference = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""(inputs [1, C, h, w], class_index [1]) -> logits [1, K], and heatmap [1, h', w'] where the file has one."""

# Pictures per batch, and the height and width of the pictures as multiples of the first one's.
_CASES = ((1, 1.0, 1.0), (3, 1.25, 0.8), (8, 1.0, 1.0), (3, 0.5, 1.5))
_MAX_SIDE = 1024

NUM_PICTURES = sum(batch_size for batch_size, _, _ in _CASES)


@dataclass(frozen=True)
class Thresholds:
    """What an exported file is held to.

    Attributes:
        probability: Largest allowed difference of any probability.
        heatmap_correlation: Smallest allowed correlation of a picture's map with PyTorch's.
        heatmap_difference: Largest allowed difference within a map, as a share of PyTorch's maximum.
        heatmap_share: Smallest allowed share of pictures whose map keeps both. It is not 1, because where an input
            of a ReLU lies within rounding of 0, or two inputs of a max pooling are as good as equal, any two
            engines may choose different sides, and then one picture's map differs by some per cent.
    """

    probability: float = 1e-4
    heatmap_correlation: float = 0.999
    heatmap_difference: float = 0.05
    heatmap_share: float = 0.8


DEFAULT_THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class Figures:
    """What was measured.

    Attributes:
        pictures: How many different ones were taken; fewer than comparisons where few were given.
        comparisons: How many answers of the file were held against PyTorch's, each picture in other sizes and batches.
        batch_sizes: Of the runs.
        picture_sizes: Height and width in pixels of the pictures of each run; empty for the float form.
        probability_difference: Largest difference of any probability.
        top1_agreement: Share of comparisons with the same top class, ties within the threshold counted as the same.
        heatmap_correlation: Smallest over the comparisons; None without heat-maps, or where all maps are flat.
        heatmap_difference: Largest difference within a map, as a share of PyTorch's maximum; None without.
        heatmap_share: Share of comparisons whose map keeps both thresholds; None without.
    """

    pictures: int
    comparisons: int
    batch_sizes: tuple[int, ...]
    picture_sizes: tuple[tuple[int, int], ...]
    probability_difference: float
    top1_agreement: float
    heatmap_correlation: float | None = None
    heatmap_difference: float | None = None
    heatmap_share: float | None = None


def verify(
    path: Path,
    reference: Reference,
    preprocessing: Preprocessing,
    pictures: Sequence[Pixels],
    *,
    input_form: Literal["pixels", "float"] = "pixels",
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    track: Track = silent,
) -> Figures:
    """Runs both sides in several batch and picture sizes and compares them.

    Args:
        path: The ONNX file.
        reference: The network's own answer.
        preprocessing: Of the network.
        pictures: At least one, uint8 [H, W, 1 or 3], each of any size.
        input_form: Of the file.
        thresholds: What it is held to.
        track: Told of every run.

    Raises:
        ExportError: The two disagree.
    """
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    runs = _runs(pictures, num_classes=_num_classes(session))
    theirs, ours = [], []
    for run in track(runs, "verifying", len(runs)):
        theirs.append(_answer_of_network(reference, preprocessing, run))
        ours.append(_answer_of_file(session, preprocessing, run, input_form))
    num_pictures = min(len(pictures), NUM_PICTURES)
    figures = _compare(ours, theirs, thresholds, runs, num_pictures, sized=input_form == "pixels")
    _judge(figures, thresholds)
    return figures


@dataclass(frozen=True)
class _Run:
    """One batch: pictures of one size, uint8 [N, H, W, 3], and the class to explain in each, int64 [N]."""

    pictures: Pixels
    class_index: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Answer:
    probabilities: Floats  # [N, K]
    heatmaps: Floats | None  # [N, h, w]


def _runs(pictures: Sequence[Pixels], num_classes: int) -> list[_Run]:
    colored = [np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture for picture in pictures]
    height, width = colored[0].shape[:2]
    runs, used = [], 0
    for batch_size, tall, wide in _CASES:
        size = min(max(round(height * tall), 1), _MAX_SIDE), min(max(round(width * wide), 1), _MAX_SIDE)
        chosen = [_resized(colored[(used + n) % len(colored)], size) for n in range(batch_size)]
        # The top class and classes by number in turn.
        explained = [-1 if n % 2 == 0 else (used + n) % num_classes for n in range(batch_size)]
        runs.append(_Run(np.stack(chosen), np.array(explained, dtype=np.int64)))
        used += batch_size
    return runs


def _resized(picture: Pixels, size: tuple[int, int]) -> Pixels:
    if picture.shape[:2] == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BICUBIC))


def _network_inputs(preprocessing: Preprocessing, pictures: Pixels) -> Floats:
    return preprocessing.normalise(np.stack([preprocessing.picture(picture) for picture in pictures]))


def _answer_of_network(reference: Reference, preprocessing: Preprocessing, run: _Run) -> _Answer:
    """One picture at a time, so that an answer that depends on its neighbours in the batch is noticed."""
    inputs = torch.from_numpy(_network_inputs(preprocessing, run.pictures))
    probabilities, heatmaps = [], []
    for one, class_index in zip(inputs[:, None], torch.from_numpy(run.class_index)[:, None], strict=True):
        logits, heatmap = reference(one, class_index)
        probabilities.append(logits.softmax(1).numpy())
        if heatmap is not None:
            heatmaps.append(heatmap.numpy())
    return _Answer(np.concatenate(probabilities), np.concatenate(heatmaps) if heatmaps else None)


def _answer_of_file(session: ort.InferenceSession, preprocessing: Preprocessing, run: _Run, input_form: str) -> _Answer:
    pixels = input_form == "pixels"
    feeds: dict[str, Any] = {"images": run.pictures if pixels else _network_inputs(preprocessing, run.pictures)}
    if len(session.get_inputs()) > 1:
        feeds["class_index"] = run.class_index
    try:
        _, probabilities, *heatmaps = session.run(None, feeds)
    except Exception as error:
        raise ExportError(
            f"The exported file does not run on {len(run.pictures)} pictures of "
            f"{run.pictures.shape[1]}x{run.pictures.shape[2]} pixels: {error}"
        ) from error
    return _Answer(probabilities, heatmaps[0] if heatmaps else None)


def _num_classes(session: ort.InferenceSession) -> int:
    return int(session.get_outputs()[0].shape[1])


def _compare(
    ours: Sequence[_Answer],
    theirs: Sequence[_Answer],
    thresholds: Thresholds,
    runs: Sequence[_Run],
    num_pictures: int,
    *,
    sized: bool,
) -> Figures:
    p = np.concatenate([answer.probabilities for answer in ours])
    q = np.concatenate([answer.probabilities for answer in theirs])
    chosen = np.take_along_axis(q, p.argmax(1)[:, None], axis=1)[:, 0]
    figures = Figures(
        pictures=num_pictures,
        comparisons=len(p),
        batch_sizes=tuple(len(run.pictures) for run in runs),
        picture_sizes=tuple((run.pictures.shape[1], run.pictures.shape[2]) for run in runs) if sized else (),
        probability_difference=float(np.abs(p - q).max()),
        top1_agreement=float((q.max(1) - chosen <= thresholds.probability).mean()),
    )
    if any(answer.heatmaps is None for answer in ours):
        return figures
    a = np.concatenate([answer.heatmaps for answer in ours if answer.heatmaps is not None])
    b = np.concatenate([answer.heatmaps for answer in theirs if answer.heatmaps is not None])
    if a.shape != b.shape:
        raise ExportError(f"The exported heat-maps are of shape {a.shape[1:]}, PyTorch's are {b.shape[1:]}.")
    correlations, differences = compare_heatmaps(a, b)
    kept = (differences <= thresholds.heatmap_difference) & ~(correlations < thresholds.heatmap_correlation)
    return replace(
        figures,
        heatmap_correlation=None if np.isnan(correlations).all() else float(np.nanmin(correlations)),
        heatmap_difference=float(differences.max()),
        heatmap_share=float(kept.mean()),
    )


def compare_heatmaps(ours: Floats, theirs: Floats) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How two sets of maps differ, map by map.

    Args:
        ours: float32 [N, h, w].
        theirs: float32 [N, h, w].

    Returns:
        Correlation [N], NaN where either map is flat; and largest difference as a share of the largest of `theirs`
        [N]. A map that is nearly zero beside the others is measured by their largest value: its own is rounding.
    """
    a, b = ours.reshape(len(ours), -1).astype(np.float64), theirs.reshape(len(theirs), -1).astype(np.float64)
    floor = max(float(b.max()) * 1e-6, float(np.finfo(np.float32).tiny))
    differences = np.abs(a - b).max(1) / np.maximum(b.max(1), floor)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    spread = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    flat = (np.abs(a).max(1) <= floor) | (np.abs(b).max(1) <= floor)
    return np.where(flat, np.nan, (a * b).sum(1) / np.where(flat, 1.0, spread)), differences


def _judge(figures: Figures, thresholds: Thresholds) -> None:
    hint = "This is a fault of the export, or the network's answer depends on the batch: please report it."
    # Written so that NaN fails.
    if not figures.probability_difference <= thresholds.probability:
        raise ExportError(
            f"The exported file disagrees with PyTorch: probabilities differ by up to "
            f"{figures.probability_difference:.2g}, allowed is {thresholds.probability:.2g}.",
            hint=hint,
        )
    if not figures.top1_agreement == 1:
        raise ExportError(
            f"The exported file disagrees with PyTorch on the top class in {1 - figures.top1_agreement:.0%} of "
            f"{figures.comparisons} comparisons.",
            hint=hint,
        )
    if figures.heatmap_share is not None and not figures.heatmap_share >= thresholds.heatmap_share:
        raise ExportError(
            f"The exported heat-maps disagree with PyTorch's in {1 - figures.heatmap_share:.0%} of "
            f"{figures.comparisons} comparisons (smallest correlation {figures.heatmap_correlation}).",
            hint="Choose another --target-layer, or export with --no-explain.",
        )
