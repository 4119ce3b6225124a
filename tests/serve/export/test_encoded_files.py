"""From the encoded file: 1,000 test pictures of many sizes and formats, by the ONNX file and by training's path."""

import io

import numpy as np
import onnxruntime as ort
import pytest
import torch
from PIL import Image
from torch import nn

from cutaway.datasets import Split
from cutaway.evaluation import evaluate
from cutaway.images import decode
from cutaway.preprocessing import Preprocessing
from cutaway.serve.classifier import Classifier
from cutaway.serve.export import export_module

COUNT = 1000
SIDE = 32
MEAN, STD = (0.3, 0.28, 0.25), (0.35, 0.33, 0.3)
PREPARED = {
    "cut from the middle": Preprocessing(size=(28, 28), resize="shorter", resize_to=SIDE, mean=MEAN, std=STD),
    "padded": Preprocessing(size=(SIDE, SIDE), resize="pad", interpolation="bicubic", mean=MEAN, std=STD),
}


def saved(kind, **options):
    def encode(image):
        file = io.BytesIO()
        image.save(file, kind, **options)
        return file.getvalue()

    return encode


# What undoes each EXIF orientation.
UNDONE = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
UNDONE |= {6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}


def turned(kind, orientation):
    """Lies in the file as a camera held that way would have written it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    encode = saved(kind, exif=exif.tobytes())
    return lambda image: encode(image.transpose(Image.Transpose[UNDONE[orientation]]) if orientation > 1 else image)


def deep(image):
    """16 bits a pixel, with something in the lower eight."""
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257 // 2)


def see_through(image):
    opacity = np.tile(np.linspace(255, 60, image.width).astype(np.uint8), (image.height, 1))
    image = image.copy()
    image.putalpha(Image.fromarray(opacity))
    return image


# Name of a format and a way to write it, of a picture in colour.
FORMATS = {
    **{f"jpg turned {n}": turned("JPEG", n) for n in range(1, 9)},
    "tif turned": turned("TIFF", 6),
    "jpg of poor quality": saved("JPEG", quality=30),
    "jpg grey": lambda image: saved("JPEG")(image.convert("L")),
    "jpg cmyk": lambda image: saved("JPEG")(image.convert("CMYK")),
    "png": saved("PNG"),
    "png palette": lambda image: saved("PNG")(image.quantize(32)),
    "png grey": lambda image: saved("PNG")(image.convert("L")),
    "png 16 bit": lambda image: saved("PNG")(deep(image)),
    "png 1 bit": lambda image: saved("PNG")(image.convert("1")),
    "png see-through": lambda image: saved("PNG")(see_through(image)),
    "webp": saved("WEBP"),
    "webp lossless": saved("WEBP", lossless=True),
    "webp see-through": lambda image: saved("WEBP")(see_through(image)),
    "gif": lambda image: saved("GIF")(image.quantize(64)),
    "bmp": saved("BMP"),
    "bmp palette": lambda image: saved("BMP")(image.quantize(64)),
    "tif": saved("TIFF", compression="tiff_lzw"),
    "tif cmyk": lambda image: saved("TIFF")(image.convert("CMYK")),
    "tif 16 bit": lambda image: saved("TIFF")(deep(image)),
}


@pytest.fixture(scope="module")
def files(fashion):
    """The test pictures, tinted, in sizes and formats of their own; every third needs no resize."""
    generator, encoded = np.random.default_rng(0), []
    formats = list(FORMATS.values())
    for number in range(COUNT):
        tint = generator.uniform(0.6, 1, 3)
        pixels = (fashion.test.image(number) * tint).astype(np.uint8)
        size = (
            (SIDE, SIDE)
            if number % 3 == 0
            else tuple((generator.integers(20, 120) * generator.uniform(0.85, 1.2, 2)).astype(int))
        )
        encoded.append(formats[number % len(formats)](Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)))
    return encoded


def solved_for(fashion, preprocessing):
    """Fixed filters, and a head that is solved for: its answers differ from picture to picture, and most are right."""
    shown = [np.repeat(np.asarray(fashion.train.image(n)), 3, axis=2) for n in range(len(fashion.train))]
    seen = torch.from_numpy(preprocessing.normalise(np.stack([preprocessing.picture(one) for one in shown])))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        filters = nn.Sequential(nn.Conv2d(3, 12, 5, stride=2), nn.ReLU(), nn.MaxPool2d(2))
        features = filters(seen).flatten(1)
        head = nn.Linear(features.shape[1], 10)
        targets = nn.functional.one_hot(torch.from_numpy(fashion.train.labels)).float() * 10
        ridge = features.t() @ features + 100 * torch.eye(features.shape[1])
        head.weight.copy_(torch.linalg.solve(ridge, features.t() @ (targets - 1)).t())
        head.bias.fill_(1.0)
    return nn.Sequential(*filters, nn.Flatten(), head).eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", PREPARED)
def test_a_thousand_encoded_pictures_are_answered_as_by_training(name, files, fashion, tmp_path):
    preprocessing = PREPARED[name]
    network = solved_for(fashion, preprocessing)
    paths = tuple(tmp_path / f"{number}.img" for number in range(COUNT))
    for path, file in zip(paths, files, strict=True):
        path.write_bytes(file)
    by_training = evaluate(network, Split("test", fashion.test.labels, paths=paths), preprocessing)
    shown = [fashion.test.image(n) for n in range(8)]
    model = export_module(network, preprocessing, fashion.classes, tmp_path / "model.onnx", images=shown).path

    pictures = [decode(file) for file in files]
    served = np.stack([answer.probabilities for answer in Classifier(model)(pictures, explain=False)])
    # The graph alone, as another program runs it: its own resize in place of PIL's.
    session, top = ort.InferenceSession(model), np.array([-1])
    alone = np.concatenate(
        [session.run(["probabilities"], {"images": one[None], "class_index": top})[0] for one in pictures]
    )

    expected, predictions = by_training.probabilities.numpy(), by_training.predictions.numpy()
    is_as_is = np.array([preprocessing.resized(*one.shape[:2]) == one.shape[:2] for one in pictures])
    assert 300 <= is_as_is.sum() <= 400
    for found in (served, alone):
        assert np.array_equal(found.argmax(1), predictions)
        differences = np.abs(found - expected).max(1)
        assert differences[is_as_is].max() <= 1e-5
        assert differences[~is_as_is].max() <= 5e-3
    # The answers are worth comparing.
    assert by_training.accuracy > 0.6
    assert len(np.unique(predictions)) == 10
    assert len({one.shape for one in pictures}) > 500
