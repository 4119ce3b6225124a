"""Compares an exported file with the network that it came from, on real pictures, before it is called done.

The two sides share as little as possible: the file is run by ONNX Runtime on decoded pixels, in batches; the network
is run by PyTorch one picture at a time, on what PIL and numpy make of the same pixels, with plain autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

from cutaway.errors import ExportError, ServingError
from cutaway.preprocessing.spec import Pixels, Preprocessing
from cutaway.progress import Track, silent
from cutaway.serve.export.comparison import compare, compare_probabilities
from cutaway.serve.export.encoded import WholeWay, encoded_pictures, go_the_whole_way
from cutaway.serve.export.figures import DEFAULT_THRESHOLDS, Answers, Figures, Floats, Thresholds
from cutaway.serve.export.verdict import DisagreementError, complaint
from cutaway.serve.sessions import Provider, Session, open_session


@dataclass(frozen=True)
class NetworkAnswer:
    """Of the network itself, to one picture.

    Attributes:
        logits: [1, K].
        heatmap: [1, h, w] where the file has one.
        features: Name of the file's output to feature maps [1, ...].
    """

    logits: Tensor
    heatmap: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)


Reference = Callable[[Tensor, Tensor], NetworkAnswer]
"""(inputs [1, C, h, w], class_index [1]) -> the network's answer, logits before any temperature."""

# Pictures per batch, and the height and width of the pictures as multiples of the first one's.
_CASES = ((1, 1.0, 1.0), (3, 1.25, 0.8), (8, 1.0, 1.0), (3, 0.5, 1.5))
_MAX_SIDE = 1024
# What is left of red, green and blue in a grey picture, so that the order of channels matters in it too.
_TINT = np.array([1.0, 0.8, 0.55])

NUM_PICTURES = sum(batch_size for batch_size, _, _ in _CASES)


def verify(
    path: Path,
    reference: Reference,
    preprocessing: Preprocessing,
    pictures: Sequence[Pixels],
    *,
    exact: Reference | None = None,
    network: nn.Module | None = None,
    input_form: Literal["pixels", "float"] = "pixels",
    temperature: float = 1.0,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    provider: Provider = "cpu",
    track: Track = silent,
) -> Figures:
    """Runs both sides in several batch and picture sizes, measures how far they are apart, and judges it.

    Args:
        path: The ONNX file.
        reference: The network's own answer.
        preprocessing: Of the network.
        pictures: At least one, uint8 [H, W, 1 or 3], each of any size.
        exact: The network's answer computed in float64, asked only where the file's is in doubt: how far the
            reference is from it says whether the file is wrong or the network leaves its answer open in float32.
        network: Whose answers to encoded files are compared too (`go_the_whole_way`); left out where None.
        input_form: Of the file.
        temperature: What the file divides logits by before the softmax.
        thresholds: What it is held to.
        provider: Where the file is run; the network is run on the CPU.
        track: Told of every run.

    Raises:
        DisagreementError: It disagrees with the network.
        ExportError: The file does not run, or its outputs are not the network's.
        DeviceError: The provider is not there.
    """
    comparing = _Comparing(_session(path, provider), preprocessing, input_form, temperature)
    runs = comparing.runs(pictures, reference)
    answers = [
        (comparing.by_file(run), comparing.by_network(reference, run)) for run in track(runs, "verifying", len(runs))
    ]
    ours, theirs = (_joined(parts) for parts in zip(*answers, strict=True))
    compared = partial(
        compare,
        ours,
        theirs,
        thresholds,
        pictures=min(len(pictures), NUM_PICTURES),
        batch_sizes=tuple(len(run.pictures) for run in runs),
        picture_sizes=tuple((run.pictures.shape[1], run.pictures.shape[2]) for run in runs)
        if input_form == "pixels"
        else (),
    )
    figures = compared()
    if exact is not None and complaint(figures, thresholds) is not None:
        top = np.split(theirs.logits.argmax(1), np.cumsum([len(run.pictures) for run in runs])[:-1])
        # The classes that the reference explained, also where it was its top class.
        explained = [
            replace(run, class_index=np.where(run.class_index < 0, own, run.class_index))
            for run, own in zip(runs, top, strict=True)
        ]
        described = "measuring how exact float32 is here"
        try:
            exactly = [comparing.by_network(exact, run) for run in track(explained, described, len(explained))]
            figures = compared(_joined(exactly))
        except Exception:  # noqa: BLE001 - whatever a person's own network raises
            # A network may insist on float32. Then nothing speaks for the file, and the doubt stands.
            figures = replace(figures, float64_failed=True)
    if network is not None:
        files = encoded_pictures(pictures)
        ways = go_the_whole_way(path, network, preprocessing, files, temperature=temperature, provider=provider)
        figures = _with_encoded(figures, ways, exact, thresholds, temperature)
    doubt = complaint(figures, thresholds)
    if doubt is not None:
        raise DisagreementError(doubt.message, hint=doubt.hint, figures=figures)
    return figures


def _session(path: Path, provider: Provider) -> Session:
    try:
        return open_session(path, provider, None)
    except ServingError as error:
        # Of the operators of a network, ONNX Runtime computes many in float32 alone.
        hint = (
            "Is the network in float64? network.float() makes it float32." if "NOT_IMPLEMENTED" in error.message else ""
        )
        raise ExportError(error.message, hint=hint) from error


def _with_encoded(
    figures: Figures, ways: WholeWay, exact: Reference | None, thresholds: Thresholds, temperature: float
) -> Figures:
    compared = partial(compare_probabilities, ways.by_file, ways.by_training, thresholds)
    found = compared()
    if found.share < 1 and exact is not None and not figures.float64_failed:
        try:
            logits = torch.cat([exact(one, torch.tensor([0])).logits for one in ways.inputs[:, None]])
            found = compared((logits / temperature).softmax(1).numpy())
        except Exception:  # noqa: BLE001 - as in `verify`
            figures = replace(figures, float64_failed=True)
    return replace(
        figures,
        encoded_pictures=len(ways.by_file),
        encoded_probability_difference=found.difference,
        encoded_top1_agreement=found.top1_agreement,
        encoded_share=found.share,
    )


@dataclass(frozen=True)
class _Run:
    """One batch: pictures of one size, uint8 [N, H, W, 3], and the class to explain in each, int64 [N]."""

    pictures: Pixels
    class_index: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Comparing:
    """The two sides that are compared."""

    session: Session
    preprocessing: Preprocessing
    input_form: str
    temperature: float

    def runs(self, pictures: Sequence[Pixels], reference: Reference) -> list[_Run]:
        """Batches of several sizes, with pictures of several sizes."""
        colored = [_in_color(picture) for picture in pictures]
        height, width = colored[0].shape[:2]
        first = self._inputs(colored[0][None])
        num_classes = reference(torch.from_numpy(first), torch.tensor([-1])).logits.shape[1]
        runs, used = [], 0
        for batch_size, tall, wide in _CASES:
            size = min(max(round(height * tall), 1), _MAX_SIDE), min(max(round(width * wide), 1), _MAX_SIDE)
            numbers = range(used, used + batch_size)
            chosen = [_resized(colored[number % len(colored)], size) for number in numbers]
            # The top class and classes by number in turn, these as far from each other as they go.
            step = max(1, 2 * num_classes // NUM_PICTURES)
            explained = [-1 if number % 2 == 0 else number // 2 * step % num_classes for number in numbers]
            tinted = [
                _tinted(picture) if number % 3 == 0 else picture
                for number, picture in zip(numbers, chosen, strict=True)
            ]
            runs.append(_Run(np.stack(tinted), np.array(explained, dtype=np.int64)))
            used += batch_size
        return runs

    def by_network(self, reference: Reference, run: _Run) -> Answers:
        """One picture at a time, so that an answer that depends on its neighbours in the batch is noticed."""
        inputs = torch.from_numpy(self._inputs(run.pictures))
        answers = [
            reference(one, class_index)
            for one, class_index in zip(inputs[:, None], torch.from_numpy(run.class_index)[:, None], strict=True)
        ]
        logits = torch.cat([answer.logits for answer in answers])
        heatmaps = [answer.heatmap for answer in answers if answer.heatmap is not None]
        return Answers(
            logits.numpy(),
            (logits / self.temperature).softmax(1).numpy(),
            torch.cat(heatmaps).numpy() if heatmaps else None,
            {name: torch.cat([answer.features[name] for answer in answers]).numpy() for name in answers[0].features},
        )

    def by_file(self, run: _Run) -> Answers:
        """A batch at once."""
        feeds: dict[str, Any] = {"images": run.pictures if self.input_form == "pixels" else self._inputs(run.pictures)}
        if "class_index" in [given.name for given in self.session.get_inputs()]:
            feeds["class_index"] = run.class_index
        try:
            names = [output.name for output in self.session.get_outputs()]
            outputs = dict(zip(names, self.session.run(names, feeds), strict=True))
        except Exception as error:
            raise ExportError(
                f"The exported file does not run on {len(run.pictures)} pictures of "
                f"{run.pictures.shape[1]}x{run.pictures.shape[2]} pixels: {error}"
            ) from error
        return Answers(
            outputs["logits"],
            outputs["probabilities"],
            outputs.get("heatmap"),
            {name: values for name, values in outputs.items() if name.startswith("features.")},
            outputs.get("heatmap_faint"),
        )

    def _inputs(self, pictures: Pixels) -> Floats:
        prepared = np.stack([self.preprocessing.picture(picture) for picture in pictures])
        return self.preprocessing.normalise(prepared)


def _in_color(picture: Pixels) -> Pixels:
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture


def _tinted(picture: Pixels) -> Pixels:
    """A grey picture with a cast of colour, or a coloured one as it is."""
    if not (picture == picture[:, :, :1]).all():
        return picture
    tinted: Pixels = (picture * _TINT).astype(np.uint8)
    return tinted


def _resized(picture: Pixels, size: tuple[int, int]) -> Pixels:
    if picture.shape[:2] == size:
        return picture
    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BICUBIC))


def _joined(parts: Sequence[Answers]) -> Answers:
    heatmaps = [part.heatmaps for part in parts if part.heatmaps is not None]
    faint = [part.faint for part in parts if part.faint is not None]
    return Answers(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate(heatmaps) if heatmaps else None,
        {name: np.concatenate([part.features[name] for part in parts]) for name in parts[0].features},
        np.concatenate(faint) if faint else None,
    )
