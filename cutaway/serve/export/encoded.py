"""The whole way of an uploaded picture, held against training's own evaluation of the same file.

On one side the file's bytes go through the decoder and the classifier, as in serving; on the other they lie in a folder
and go through the data set, the feed and `evaluate`, as in training. So a preprocessing in the metadata that is not
the graph's, or a picture that one side turns and the other does not, is noticed before the file is called done.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor, nn

from cutaway.datasets import Split
from cutaway.errors import ExportError, ServingError
from cutaway.evaluation import evaluate
from cutaway.images import decode
from cutaway.preprocessing.spec import Pixels, Preprocessing
from cutaway.serve.classifier import Classifier
from cutaway.serve.export.figures import Floats
from cutaway.serve.sessions import Provider

_ORIENTATION = 0x0112
_MAX_SIDE = 512


@dataclass(frozen=True)
class WholeWay:
    """Probabilities [N, K] of N encoded files on both ways.

    Attributes:
        by_file: Decoder and classifier.
        by_training: Training's evaluation path.
        inputs: float32 [N, C, h, w], what the network saw, for whoever must ask it again.
    """

    by_file: Floats
    by_training: Floats
    inputs: Tensor


def go_the_whole_way(
    path: Path,
    network: nn.Module,
    preprocessing: Preprocessing,
    files: Sequence[bytes],
    *,
    temperature: float = 1.0,
    provider: Provider = "cpu",
) -> WholeWay:
    """Classifies encoded pictures on both ways.

    Args:
        path: The ONNX file.
        network: On the CPU.
        preprocessing: Of the network.
        files: Encoded pictures, each of any format that `cutaway.images` reads.
        temperature: What the file divides logits by before the softmax.
        provider: Where the file is run.

    Raises:
        ExportError: The classifier cannot use the file.
    """
    try:
        classifier = Classifier(path, provider=provider)
        predictions = classifier([decode(file) for file in files], explain=False)
    except ServingError as error:
        raise ExportError(f"The exported file cannot be served: {error.message}", hint=error.hint) from error
    with tempfile.TemporaryDirectory(prefix="cutaway-") as folder:
        # Named by number alone: the format is told by the content.
        paths = tuple(Path(folder, f"{number}.img") for number in range(len(files)))
        for place, file in zip(paths, files, strict=True):
            place.write_bytes(file)
        split = Split("test", np.zeros(len(files), np.int64), paths=paths)
        logits = evaluate(network, split, preprocessing, batch_size=8).logits
        seen = np.stack([preprocessing.picture(split.image(index)) for index in range(len(split))])
    return WholeWay(
        by_file=np.stack([prediction.probabilities for prediction in predictions]),
        by_training=(logits / temperature).softmax(1).numpy(),
        inputs=torch.from_numpy(preprocessing.normalise(seen)),
    )


def encoded_pictures(pictures: Sequence[Pixels]) -> list[bytes]:
    """The pictures as files, each way of encoding once: eight, some at their own size and some at another.

    Args:
        pictures: At least one, uint8 [H, W, 1 or 3], each of any size.
    """
    files = []
    # Some distributions build PIL without WebP.
    usable = [encode for name, encode in ENCODINGS.items() if name != "WebP" or features.check("webp")]
    for number, encode in enumerate(usable):
        picture = pictures[number % len(pictures)]
        image = Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).convert("RGB")
        scale = min(1.0 if number % 2 == 0 else 1.5, _MAX_SIDE / max(image.size))
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale * (1 if number % 2 == 0 else 0.7)))
        files.append(encode(image if size == image.size else image.resize(size)))
    return files


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _turned(image: Image.Image, orientation: int) -> bytes:
    """A JPEG whose EXIF says how a viewer has to turn it."""
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return _saved(image, "JPEG", quality=90, exif=exif.tobytes())


def _fading(image: Image.Image) -> Image.Image:
    """From opaque on the left to half transparent on the right."""
    opacity = np.tile(np.linspace(255, 100, image.width).astype(np.uint8), (image.height, 1))
    image.putalpha(Image.fromarray(opacity))
    return image


ENCODINGS: dict[str, Callable[[Image.Image], bytes]] = {
    "PNG": lambda image: _saved(image, "PNG"),
    "JPEG, turned by a quarter": lambda image: _turned(image, 6),
    "WebP": lambda image: _saved(image, "WEBP", quality=90),
    "grey PNG": lambda image: _saved(image.convert("L"), "PNG"),
    "PNG with a palette": lambda image: _saved(image.quantize(64), "PNG"),
    "PNG with transparency": lambda image: _saved(_fading(image.copy()), "PNG"),
    "grey JPEG, mirrored": lambda image: _turned(image.convert("L"), 2),
    "CMYK JPEG": lambda image: _saved(image.convert("CMYK"), "JPEG", quality=90),
}
