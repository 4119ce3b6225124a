"""Classifying pictures with an exported ONNX file by ONNX Runtime; no PyTorch."""

from __future__ import annotations

import operator
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cutaway.errors import ServingError
from cutaway.preprocessing.spec import MOST_RESIZED_PIXELS, Pixels, Preprocessing
from cutaway.serve.external_data import read_external_data
from cutaway.serve.foreign_graph import ForeignGraph, Scores, described
from cutaway.serve.metadata import Metadata, check_seal, from_properties, is_ours
from cutaway.serve.micro_batches import MicroBatches, MicroBatching
from cutaway.serve.onnx_file import check_operators, check_stands_alone, properties
from cutaway.serve.own_graph import OwnGraph
from cutaway.serve.sessions import CUDA, Provider, open_session, wanted_providers

__all__ = ["Classifier", "Prediction", "Score"]

TOP_CLASS = -1
"""As `class_index`: explain whichever class comes out on top."""

# protobuf reads no larger message.
_LARGEST_FILE = 2**31


@dataclass(frozen=True)
class Score:
    """One class and how probable the network finds it.

    Attributes:
        index: Of the class, in output order.
        label: Its name.
        probability: Between 0 and 1.
    """

    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """What the network says about one picture.

    Attributes:
        top: The most probable classes, best first.
        probabilities: float32 [K], in class order.
        heatmap: float32 [h, w], the raw map of `explained`; None where none was asked for or the file has none.
        heatmap_faint: Nothing, or nothing but rounding, is in the heat-map: it should not be stretched to be seen.
        explained: The class that the heat-map explains.
        seen: uint8 [h, w, C], the picture after colour conversion, resize and crop: what the network saw.
        milliseconds: Time from pixels to answer; of a batch, each picture's equal share.
        features: Layer to what it returned for this picture, float32 [C, h, w] where that is a map; empty where not
            asked for.
    """

    top: tuple[Score, ...]
    probabilities: npt.NDArray[np.float32]
    heatmap: npt.NDArray[np.float32] | None
    explained: Score | None
    seen: Pixels
    milliseconds: float
    heatmap_faint: bool = False
    features: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)


class Classifier:
    """An exported network, loaded, checked and warmed up. One instance may be called from many threads at once.

    Another tool's file says neither its classes nor its preprocessing. With both given it is used all the same, without
    heat-maps; what cannot be told from the file is taken on trust.

    Args:
        path: An ONNX file that `cutaway export` made, or a plain classifier of another tool: one float input
            [N, C, h, w] or [N, h, w, C], scores [N, K].
        provider: `cpu`, `cuda`, or `auto` for CUDA where this machine's ONNX Runtime has it.
        threads: CPU threads of one run; by default ONNX Runtime's choice.
        classes: Of another tool's file, label names in output order.
        preprocessing: Of another tool's file.
        scores: Of another tool's file: `logits`, `probabilities`, or `auto` to find out.
        micro_batching: How calls from several threads share a run; None where each has its own.

    Attributes:
        metadata: What the file says about itself.
        requested: ONNX Runtime's execution providers that it was asked for, in order.
        providers: Those that were really loaded, in order.
        path: The file.
        file_name: Its name, without its folder.

    Raises:
        ServingError: The file is missing, damaged, too new, not made by cutaway, or does not stand alone.
        DeviceError: `cuda` was asked for and did not load; ONNX Runtime itself would fall back in silence.
    """

    metadata: Metadata
    requested: tuple[str, ...]
    providers: tuple[str, ...]
    path: Path
    file_name: str

    def __init__(
        self,
        path: Path | str,
        *,
        provider: Provider = "auto",
        threads: int | None = None,
        classes: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
        scores: Scores = "auto",
        micro_batching: MicroBatching | None = None,
    ) -> None:
        path = Path(path)
        data = _read(path)
        self.path, self.file_name = path, path.name
        is_foreign = classes is not None or preprocessing is not None or scores != "auto"
        self.metadata = _foreign(path, data, classes, preprocessing) if is_foreign else _own(data)
        self.requested = wanted_providers(provider)
        external = self.metadata.external_data
        weights = None if external is None else (external.file, read_external_data(path.parent, external))
        session = open_session(data, provider, threads, weights)
        self.providers = tuple(session.get_providers())
        self._graph: OwnGraph | ForeignGraph | MicroBatches = (
            ForeignGraph(session, data, self.metadata, scores) if is_foreign else OwnGraph(session, self.metadata)
        )
        self._warm_up()
        if micro_batching is not None:
            self._graph = MicroBatches(self._graph, micro_batching)

    @property
    def device(self) -> str:
        """`cuda` or `cpu`: where the network really runs."""
        return "cuda" if self.providers[:1] == (CUDA,) else "cpu"

    @property
    def fell_back(self) -> bool:
        """Whether `auto` asked for CUDA, and ONNX Runtime could not load it."""
        return self.requested[:1] != self.providers[:1]

    @property
    def classes(self) -> tuple[str, ...]:
        """The label names in output order."""
        return self.metadata.classes

    def __call__(
        self,
        images: Sequence[Pixels],
        *,
        top_k: int = 5,
        explain: bool = True,
        class_index: int | Sequence[int] = TOP_CLASS,
        features: bool = False,
    ) -> list[Prediction]:
        """Classifies pictures of any sizes in one run.

        Args:
            images: uint8 [H, W, 3] or [H, W, 1] each, as `images.decode` gives them.
            top_k: How many classes to name; all, where there are fewer.
            explain: Whether to give heat-maps too; without effect on a file that has none.
            class_index: The class to explain, one for all or one per picture; -1 explains the top class.
            features: Whether to give the feature maps that the file was exported with.

        Returns:
            One prediction per picture, in order.

        Raises:
            ServingError: `class_index` or `top_k` is out of range, or the network's answer is not finite.
        """
        targets = self._targets(class_index, len(images))
        if top_k < 1:
            raise ServingError(f"top_k must be at least 1, not {top_k}.")
        if not images:
            return []
        start = time.perf_counter()
        seen = [self.metadata.preprocessing.picture(image) for image in images]
        answers = self._graph.answers(seen, targets, explain=explain, features=features)
        heatmaps = answers.heatmaps
        milliseconds = (time.perf_counter() - start) * 1000 / len(images)
        return [
            Prediction(
                top=tuple(self._score(row, int(index)) for index in np.argsort(-row, kind="stable")[:top_k]),
                probabilities=row,
                heatmap=None if heatmaps is None else heatmaps[i],
                explained=None if heatmaps is None else self._score(row, _resolved(int(targets[i]), row)),
                seen=seen[i],
                milliseconds=milliseconds,
                heatmap_faint=answers.faint is not None and bool(answers.faint[i]),
                features={layer: values[i] for layer, values in answers.features.items()},
            )
            for i, row in enumerate(answers.probabilities)
        ]

    def _score(self, probabilities: npt.NDArray[np.float32], index: int) -> Score:
        return Score(index, self.classes[index], float(probabilities[index]))

    def _targets(self, class_index: int | Sequence[int], num_images: int) -> npt.NDArray[np.int64]:
        if isinstance(class_index, int | np.integer):
            given = [int(class_index)]
            targets = given * num_images
        else:
            targets = given = [operator.index(index) for index in class_index]
        if len(targets) != num_images:
            raise ServingError(f"{len(targets)} class indices were given for {num_images} pictures.")
        for target in given:
            if not TOP_CLASS <= target < len(self.classes):
                raise ServingError(
                    f"There is no class {target}.",
                    hint=f"Classes count from 0 to {len(self.classes) - 1}; -1 is the top.",
                )
        return np.array(targets, np.int64)

    def _warm_up(self) -> None:
        """The first run allocates and chooses kernels; a person should not wait for that, nor meet its failure."""
        height, width, channels = *self.metadata.preprocessing.size, self.metadata.preprocessing.channels
        grey = np.full((height, width, channels), 128, np.uint8)
        self._graph.answers([grey], np.array([TOP_CLASS], np.int64), explain=True, features=True)


def _own(data: bytes) -> Metadata:
    """What a file of ours says about itself, once it is known to be whole and to stand alone."""
    check_seal(data)
    metadata = from_properties(properties(data))
    external = metadata.external_data
    check_stands_alone(data, None if external is None else (external.file, external.num_bytes))
    check_operators(data)
    _check_size(metadata.preprocessing)
    return metadata


def _check_size(preprocessing: Preprocessing) -> None:
    """A few bytes of metadata must not make a server take gigabytes."""
    height, width = preprocessing.size
    if max(height * width, (preprocessing.resize_to or 0) ** 2) > MOST_RESIZED_PIXELS:
        raise ServingError(
            f"The ONNX file's network looks at {width}x{height} pixels, more than "
            f"{MOST_RESIZED_PIXELS // 10**6} million."
        )


def _foreign(path: Path, data: bytes, classes: Sequence[str] | None, preprocessing: Preprocessing | None) -> Metadata:
    """What a person says about another tool's file, once it is known to stand alone."""
    if is_ours(properties(data)):
        raise ServingError(
            f"{path} was made by cutaway and says its classes and preprocessing itself.",
            hint="Leave out what you say of them.",
        )
    if classes is None or preprocessing is None:
        raise ServingError(
            f"{path} was made by another tool: both its classes and its preprocessing must be said.",
            hint="Give --classes and --preprocessing together.",
        )
    check_stands_alone(data)
    check_operators(data)
    _check_size(preprocessing)
    return described(path.stem, classes, preprocessing)


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise ServingError(
            f"{path} is a folder and not an ONNX file.",
            hint=f"Export it first: `cutaway export {path} --out model.onnx`.",
        )
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ServingError(f"{path} is not a file.")
        if status.st_size >= _LARGEST_FILE:
            raise ServingError(f"{path} has {status.st_size / 2**30:.1f} GiB, and an ONNX file is smaller than 2.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ServingError(
            f"There is no file {path}.", hint="Make one with `cutaway export RUN --out model.onnx`."
        ) from error
    except OSError as error:
        raise ServingError(f"{path} cannot be read: {error.strerror}.") from error


def _resolved(target: int, probabilities: npt.NDArray[np.float32]) -> int:
    return int(probabilities.argmax()) if target == TOP_CLASS else target
