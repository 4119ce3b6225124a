"""Classifying pictures with an exported ONNX file by ONNX Runtime; no PyTorch."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors

from cutaway.errors import DeviceError, ServingError
from cutaway.preprocessing.spec import Pixels, Preprocessing
from cutaway.serve.metadata import Metadata, check_seal, from_properties
from cutaway.serve.onnx_file import check_stands_alone, properties

__all__ = ["Classifier", "Prediction", "Score"]

Provider = Literal["auto", "cpu", "cuda"]

TOP_CLASS = -1
"""As `class_index`: explain whichever class comes out on top."""

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

# ONNX Runtime's exceptions have no base of their own.
_RUNTIME_ERRORS = (
    runtime_errors.EPFail,
    runtime_errors.EngineError,
    runtime_errors.Fail,
    runtime_errors.InvalidArgument,
    runtime_errors.InvalidGraph,
    runtime_errors.InvalidProtobuf,
    runtime_errors.NoModel,
    runtime_errors.NoSuchFile,
    runtime_errors.NotImplemented,
    runtime_errors.RuntimeException,
)


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
        heatmap: float32 [h, w], raw Grad-CAM of `explained`; None where none was asked for or the file has none.
        explained: The class that the heat-map explains.
        seen: uint8 [h, w, C], the picture after colour conversion, resize and crop: what the network saw.
        milliseconds: Time from pixels to answer; of a batch, each picture's equal share.
    """

    top: tuple[Score, ...]
    probabilities: npt.NDArray[np.float32]
    heatmap: npt.NDArray[np.float32] | None
    explained: Score | None
    seen: Pixels
    milliseconds: float


class Classifier:
    """An exported network, loaded, checked and warmed up. One instance may be called from many threads at once.

    Args:
        path: An ONNX file that `cutaway export` made.
        provider: `cpu`, `cuda`, or `auto` for CUDA where this machine's ONNX Runtime has it.
        threads: CPU threads of one run; by default ONNX Runtime's choice.

    Attributes:
        metadata: What the file says about itself.
        providers: ONNX Runtime's execution providers that were really loaded, in order.
        file_name: Name of the file, without its folder.

    Raises:
        ServingError: The file is missing, damaged, too new, not made by cutaway, or does not stand alone.
        DeviceError: `cuda` was asked for and did not load; ONNX Runtime itself would fall back in silence.
    """

    metadata: Metadata
    providers: tuple[str, ...]
    file_name: str

    def __init__(self, path: Path | str, *, provider: Provider = "auto", threads: int | None = None) -> None:
        path = Path(path)
        data = _read(path)
        check_seal(data)
        self.metadata = from_properties(properties(data))
        check_stands_alone(data)
        self.file_name = path.name
        self._session = _open(data, provider, threads)
        self.providers = tuple(self._session.get_providers())
        if provider == "cuda" and self.providers[:1] != (_CUDA,):
            raise DeviceError(
                "ONNX Runtime could not load CUDA on this machine.",
                hint="Check the driver and `pip install cutaway[serve-gpu]`, or ask for the provider cpu.",
            )
        self._check_signature()
        self._warm_up()

    @property
    def device(self) -> str:
        """`cuda` or `cpu`: where the network really runs."""
        return "cuda" if self.providers[:1] == (_CUDA,) else "cpu"

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
    ) -> list[Prediction]:
        """Classifies pictures of any sizes in one run.

        Args:
            images: uint8 [H, W, 3] or [H, W, 1] each, as `images.decode` gives them.
            top_k: How many classes to name; all, where there are fewer.
            explain: Whether to give heat-maps too; without effect on a file that has none.
            class_index: The class to explain, one for all or one per picture; -1 explains the top class.

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
        probabilities, heatmaps = self._run(seen, targets, explain and self.metadata.explains)
        milliseconds = (time.perf_counter() - start) * 1000 / len(images)
        return [
            Prediction(
                top=tuple(self._score(row, int(index)) for index in np.argsort(-row, kind="stable")[:top_k]),
                probabilities=row,
                heatmap=None if heatmaps is None else heatmaps[i],
                explained=None if heatmaps is None else self._score(row, _resolved(int(targets[i]), row)),
                seen=seen[i],
                milliseconds=milliseconds,
            )
            for i, row in enumerate(probabilities)
        ]

    def _score(self, probabilities: npt.NDArray[np.float32], index: int) -> Score:
        return Score(index, self.classes[index], float(probabilities[index]))

    def _targets(self, class_index: int | Sequence[int], num_images: int) -> npt.NDArray[np.int64]:
        targets = [class_index] * num_images if isinstance(class_index, int) else list(class_index)
        if len(targets) != num_images:
            raise ServingError(f"{len(targets)} class indices were given for {num_images} pictures.")
        for target in [class_index] if isinstance(class_index, int) else targets:
            if not TOP_CLASS <= target < len(self.classes):
                raise ServingError(
                    f"There is no class {target}.",
                    hint=f"Classes count from 0 to {len(self.classes) - 1}; -1 is the top.",
                )
        return np.array(targets, np.int64)

    def _run(
        self, seen: Sequence[Pixels], targets: npt.NDArray[np.int64], explain: bool
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """Probabilities [N, K] and heat-maps [N, h, w]."""
        feed: dict[str, npt.NDArray[Any]] = {"images": _network_input(seen, self.metadata)}
        if self.metadata.explains:
            feed["class_index"] = targets
        try:
            outputs = self._session.run(["probabilities", "heatmap"] if explain else ["probabilities"], feed)
        except _RUNTIME_ERRORS as error:
            raise ServingError(f"ONNX Runtime could not run the network: {_first_line(error)}") from error
        if outputs[0].shape != (len(seen), len(self.classes)):
            raise ServingError(
                f"The ONNX file's metadata names {len(self.classes)} classes, and its network gives "
                f"probabilities of shape {list(outputs[0].shape)}.",
                hint="Export it again.",
            )
        if not all(np.isfinite(output).all() for output in outputs):
            raise ServingError(
                "The network's answer holds values that are not finite.", hint="Its weights may be broken."
            )
        return outputs[0], outputs[1] if explain else None

    def _check_signature(self) -> None:
        """The inputs and outputs are those that the metadata promises."""
        inputs = {node.name: node.type for node in self._session.get_inputs()}
        outputs = {node.name: node.type for node in self._session.get_outputs()}
        expected: Mapping[str, str] = {
            "images": "tensor(uint8)" if self.metadata.input == "pixels" else "tensor(float)",
            **({"class_index": "tensor(int64)"} if self.metadata.explains else {}),
        }
        needed = {"logits", "probabilities"} | ({"heatmap"} if self.metadata.explains else set())
        if inputs != expected or not needed <= outputs.keys():
            raise ServingError(
                f"The ONNX file takes {_listed(inputs)} and gives {_listed(outputs)}; its metadata promises otherwise.",
                hint="Export it again.",
            )

    def _warm_up(self) -> None:
        """The first run allocates and chooses kernels; a person should not wait for that, nor meet its failure."""
        height, width, channels = *self.metadata.preprocessing.size, self.metadata.preprocessing.channels
        grey = np.full((height, width, channels), 128, np.uint8)
        _, heatmaps = self._run([grey], np.array([TOP_CLASS], np.int64), self.metadata.explains)
        if heatmaps is not None and heatmaps.ndim != 3:
            raise ServingError(
                f"The ONNX file's heat-map has {heatmaps.ndim} dimensions and not 3.", hint="Export it again."
            )


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise ServingError(
            f"{path} is a folder and not an ONNX file.",
            hint=f"Export it first: `cutaway export {path} --out model.onnx`.",
        )
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ServingError(
            f"There is no file {path}.", hint="Make one with `cutaway export RUN --out model.onnx`."
        ) from error
    except OSError as error:
        raise ServingError(f"{path} cannot be read: {error.strerror}.") from error


def _open(data: bytes, provider: Provider, threads: int | None) -> onnxruntime.InferenceSession:
    available = onnxruntime.get_available_providers()
    if provider == "cuda" and _CUDA not in available:
        raise DeviceError(
            "This ONNX Runtime was built without CUDA.",
            hint="`pip install cutaway[serve-gpu]` in an environment without onnxruntime, or ask for the provider cpu.",
        )
    wanted = [_CUDA, _CPU] if provider != "cpu" and _CUDA in available else [_CPU]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its failures reach the person as exceptions
    if threads is not None:
        if threads < 1:
            raise ServingError(f"threads must be at least 1, not {threads}.")
        options.intra_op_num_threads = threads
    try:
        # From bytes and not from the path: what was checked is what is run.
        return onnxruntime.InferenceSession(data, options, providers=wanted)
    except _RUNTIME_ERRORS as error:
        raise ServingError(
            f"ONNX Runtime cannot load the file: {_first_line(error)}", hint="Export it again."
        ) from error


def _network_input(seen: Sequence[Pixels], metadata: Metadata) -> npt.NDArray[Any]:
    """What the network is fed: pixels already resized, on which the graph's own resize and crop change nothing."""
    pictures = np.stack(seen)
    if metadata.input == "float":
        return metadata.preprocessing.normalise(pictures)
    if pictures.shape[3] == 1:
        pictures = np.repeat(pictures, 3, axis=3)  # its luma is the same grey again
    return _framed(pictures, metadata.preprocessing)


def _framed(pictures: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Puts a black frame of the width that the graph's centre crop will cut off again, where there is such a crop."""
    if preprocessing.resize_to is None:
        return pictures
    side = preprocessing.resize_to
    (top, left), (height, width) = preprocessing.crop_offset(side, side), preprocessing.size
    framed = np.zeros((len(pictures), side, side, 3), np.uint8)
    framed[:, top : top + height, left : left + width] = pictures
    return framed


def _resolved(target: int, probabilities: npt.NDArray[np.float32]) -> int:
    return int(probabilities.argmax()) if target == TOP_CLASS else target


def _listed(nodes: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in nodes.items()) or "nothing"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
