"""Ten times as many clients as places, for a while: who is accepted is answered, the rest is told to come back."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest

from cutaway.images import encode_png
from cutaway.serve import server
from cutaway.serve.api import ServingLimits, create_app
from cutaway.serve.classifier import Classifier

RUNNING, WAITING = 1, 2
CLIENTS = 10 * (RUNNING + WAITING)
GROWTH_BYTES = 64 * 2**20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def post(client: httpx.Client, body: bytes) -> tuple[int, str]:
    """Status and best class, or when to come back."""
    response = client.post("/v1/classify?top_k=1", content=body, headers={"content-type": "image/png"})
    is_good = response.status_code == 200
    return response.status_code, (
        response.json()["results"][0]["top"][0]["label"] if is_good else response.headers["retry-after"]
    )


def post_for(url: str, seconds: float, body: bytes, found: Counter[tuple[int, str]], first: threading.Event) -> None:
    ends = time.monotonic() + seconds
    with httpx.Client(base_url=url, timeout=60) as client:
        while time.monotonic() < ends:
            found[post(client, body)] += 1
            first.set()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
@pytest.mark.faults
@pytest.mark.parametrize("seconds", [1.5, pytest.param(30, marks=pytest.mark.slow)])
def test_ten_times_the_capacity(model_path, seconds: float) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    body = encode_png(picture)
    app = create_app(
        Classifier(model_path, threads=1), page=False, limits=ServingLimits(running=RUNNING, waiting=WAITING)
    )
    with server.running(app) as url:
        found: list[Counter[tuple[int, str]]] = [Counter() for _ in range(CLIENTS)]
        first = threading.Event()
        threads = [threading.Thread(target=post_for, args=(url, seconds, body, each, first)) for each in found]
        for thread in threads:
            thread.start()
        assert first.wait(30)
        before = resident_bytes()
        for thread in threads:
            thread.join()
        grown = resident_bytes() - before
        with httpx.Client(base_url=url) as client:
            status, label = post(client, body)  # at once

    assert status == 200
    assert set(sum(found, Counter())) == {(200, label), (503, "1")}
    assert grown < GROWTH_BYTES
    assert app.state.slots.taken == 0
