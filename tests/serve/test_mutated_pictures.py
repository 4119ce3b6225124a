"""Thousands of mutilated pictures of every format, posted to a real server: 2xx or 4xx, never a 5xx, bounded memory."""

from __future__ import annotations

import base64
import io
import random
import resource
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from cutaway.images import Limits
from cutaway.serve import server
from cutaway.serve.api import ServingLimits, create_app
from cutaway.serve.classifier import Classifier

LIMITS = ServingLimits(max_body_bytes=2**20, max_images=4, image=Limits(max_bytes=2**20, max_pixels=500_000))
GROWTH_BYTES = 64 * 2**20


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def seeds() -> list[bytes]:
    """Small pictures of every format and many of its kinds."""
    rng = np.random.default_rng(0)
    colors = Image.fromarray(rng.integers(0, 256, (19, 33, 3), dtype=np.uint8))
    grey16 = Image.fromarray(rng.integers(0, 65536, (19, 33), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    moving = {"save_all": True, "append_images": [colors.rotate(90)]}
    return [
        encoded(colors, "JPEG", exif=exif),
        encoded(colors, "JPEG", progressive=True),
        encoded(colors.convert("CMYK"), "JPEG"),
        encoded(colors, "PNG", exif=exif),
        encoded(colors.convert("P"), "PNG", transparency=3),
        encoded(colors.convert("RGBA"), "PNG"),
        encoded(grey16, "PNG"),
        encoded(colors, "WEBP", exif=exif),
        encoded(colors.convert("RGBA"), "WEBP", lossless=True),
        encoded(colors, "WEBP", **moving),
        encoded(colors, "BMP"),
        encoded(colors.convert("P"), "BMP"),
        encoded(colors, "GIF", **moving),
        encoded(colors.convert("L"), "GIF", interlace=1),
        encoded(colors, "TIFF"),
        encoded(colors, "TIFF", compression="tiff_lzw"),
        encoded(grey16, "TIFF"),
    ]


def mutant(rng: random.Random, originals: list[bytes]) -> bytes:
    """One to four changes: bits, bytes, numbers of four bytes, cuts, repeats, and pieces of other pictures."""
    data = bytearray(rng.choice(originals))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        if rng.random() < 0.3:  # most of what is decided is decided by the head
            at = min(at, rng.randrange(64))
        match rng.randrange(7):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1 if at < len(data):
                data[at] = rng.choice((0, 0x7F, 0x80, 0xFF))
            case 2:
                number = rng.choice((0, 1, 0x7FFF, 0xFFFF, 2**31 - 1, 2**32 - 1, rng.randrange(2**32)))
                data[at : at + 4] = number.to_bytes(4, rng.choice(("little", "big")))
            case 3:
                del data[at:]
            case 4:
                del data[at : at + rng.randrange(1, 40)]
            case 5:
                data[at:at] = data[at : at + rng.randrange(1, 200)]
            case _:
                other = rng.choice(originals)
                start = rng.randrange(len(other))
                data[at:at] = other[start : start + rng.randrange(1, 100)]
    return bytes(data)


def post(client: httpx.Client, way: int, pictures: list[bytes]) -> httpx.Response:
    """Sends them in one of the ways that the API takes."""
    query = {"explain": ("none", "overlay", "numbers")[way % 3]}
    if way % 4 == 0:
        return client.post("/v1/classify", params=query, content=pictures[0], headers={"content-type": "image/png"})
    if way % 4 == 1:
        files = [("images", (f"{number}.png", data)) for number, data in enumerate(pictures)]
        return client.post("/v1/classify", params=query, files=files)
    in_base64 = [base64.b64encode(data).decode() for data in pictures]
    if way % 4 == 2:
        return client.post("/v1/classify", params=query, json={"images": in_base64})
    tensor = {"name": "images", "datatype": "BYTES", "shape": [len(pictures)], "data": in_base64}
    return client.post("/v2/models/model/infer", json={"inputs": [tensor]})


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.fixture
def client(model_path) -> Iterator[httpx.Client]:
    app = create_app(Classifier(model_path, provider="cpu", threads=1), page=False, limits=LIMITS)
    with server.running(app) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


@pytest.fixture
def _bounded_memory() -> Iterator[None]:
    """Whoever asks for a gigabyte more gets a MemoryError, and that would be a 500."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def send(client: httpx.Client, count: int, seed: int) -> tuple[Counter[int], int]:
    """How often each status came, and by how many bytes the process grew after the first tenth."""
    rng, originals = random.Random(seed), seeds()
    statuses: Counter[int] = Counter()
    after_tenth = most = 0
    for number in range(count):
        pictures = [mutant(rng, originals) for _ in range(1 if number % 4 == 0 else rng.randint(1, 2))]
        response = post(client, number, pictures)
        assert response.status_code < 500, (number, response.text)
        if response.status_code >= 400:
            assert response.headers["content-type"] == "application/problem+json"
            assert 10 < len(response.json()["detail"]) < 2000
        statuses[response.status_code] += 1
        if number == count // 10:
            after_tenth = resident_bytes()
        if number > count // 10:
            most = max(most, resident_bytes() - after_tenth)
    return statuses, most


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.usefixtures("_bounded_memory")
@pytest.mark.parametrize(
    ("count", "seed"), [(200, 1), pytest.param(5000, 0, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_no_mutilated_picture_breaks_the_server(client, count: int, seed: int) -> None:
    assert all(post(client, way, seeds()[way : way + 1]).status_code == 200 for way in range(len(seeds())))

    statuses, grown = send(client, count, seed)

    assert statuses[200] > count / 20  # some are still pictures
    assert statuses[422] > count / 4
    assert set(statuses) <= {200, 400, 413, 415, 422}
    assert grown < GROWTH_BYTES
    assert client.get("/readyz").status_code == 200
