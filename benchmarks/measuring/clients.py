"""Clients that post pictures to a server, in a process of their own: they share no interpreter with what they measure.

Each client is a thread with one connection, and sends its next picture when the answer to the last one is there.

Run: python clients.py URL SPEECH FOLDER --clients N (--seconds S | --requests N), as `Load` does.
"""

import argparse
import http.client
import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

BOUNDARY = "a-boundary-that-no-picture-holds"
Ask = Callable[[http.client.HTTPConnection, str, bytes], None]


class Taken(NamedTuple):
    """What requests took.

    Attributes:
        seconds: Of each.
        in_time: How many were answered before the time was over.
    """

    seconds: list[float]
    in_time: int


class Load:
    """What a number of clients can ask of a server.

    Args:
        pictures: A folder of JPEG files.
        clients: How many post at once.
    """

    def __init__(self, pictures: Path, clients: int = 8) -> None:
        self._pictures, self._clients = pictures, clients

    def for_seconds(self, url: str, speech: str, seconds: float) -> Taken:
        """Asks for a time, and waits for the answers that are then still missing."""
        return self._run(url, speech, "--seconds", seconds)

    def requests(self, url: str, speech: str, count: int) -> Taken:
        """Asks a number of times."""
        return self._run(url, speech, "--requests", count)

    def _run(self, url: str, speech: str, *how: object) -> Taken:
        words = [sys.executable, __file__, url, speech, self._pictures, "--clients", self._clients, *how]
        told = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        if told.returncode:
            raise RuntimeError(f"the clients of {url} failed: {told.stderr.strip()[-500:]}")
        return Taken(*json.loads(told.stdout))


def form(field: str, data: bytes) -> bytes:
    """A form with one file."""
    head = (
        f"--{BOUNDARY}\r\n"
        f'Content-Disposition: form-data; name="{field}"; filename="picture.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def post(connection: http.client.HTTPConnection, path: str, body: bytes, kind: str) -> bytes:
    connection.request("POST", path, body, {"Content-Type": kind})
    return answer(connection, path)


def answer(connection: http.client.HTTPConnection, path: str) -> bytes:
    response = connection.getresponse()
    said = response.read()
    if response.status != 200:
        raise ConnectionError(f"{path} answered {response.status}: {said[:200]!r}")
    return said


def ask_by_form(connection: http.client.HTTPConnection, path: str, data: bytes) -> None:
    said = post(connection, path, form("images", data), f"multipart/form-data; boundary={BOUNDARY}")
    assert b"probability" in said, said


def ask_gradio(connection: http.client.HTTPConnection, path: str, data: bytes) -> None:
    """Gradio's HTTP API as it documents it: upload the file, start the call, read its result as it comes."""
    uploaded = post(connection, "/gradio_api/upload", form("files", data), f"multipart/form-data; boundary={BOUNDARY}")
    file = {"path": json.loads(uploaded)[0], "meta": {"_type": "gradio.FileData"}}
    begun = post(connection, path, json.dumps({"data": [file]}).encode(), "application/json")
    connection.request("GET", f"{path}/{json.loads(begun)['event_id']}")
    said = answer(connection, path)
    assert b"event: complete" in said, said


SPEECHES: dict[str, Ask] = {"form": ask_by_form, "gradio": ask_gradio}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("speech", choices=SPEECHES)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--requests", type=int)
    asked = parser.parse_args()
    split = urlsplit(asked.url)
    assert split.hostname == "127.0.0.1"
    pictures = [file.read_bytes() for file in sorted(asked.pictures.glob("*.jpg"))]
    taken: list[tuple[float, bool]] = []
    failures: list[BaseException] = []
    remaining = iter(range(asked.requests)) if asked.requests else itertools.count()
    lock, start = threading.Lock(), threading.Barrier(asked.clients + 1)

    def client(number: int) -> None:
        connection = http.client.HTTPConnection(split.hostname, split.port, timeout=120)
        start.wait()
        end = time.perf_counter() + asked.seconds if asked.seconds else float("inf")
        try:
            while True:
                with lock:
                    if failures or next(remaining, None) is None:
                        return
                began = time.perf_counter()
                if began >= end:
                    return
                number += 1
                SPEECHES[asked.speech](connection, split.path, pictures[number % len(pictures)])
                now = time.perf_counter()
                taken.append((now - began, now <= end))
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=client, args=(number,)) for number in range(asked.clients)]
    for thread in threads:
        thread.start()
    start.wait()
    for thread in threads:
        thread.join()
    if failures:
        sys.exit(1)
    print(json.dumps([[seconds for seconds, _ in taken], sum(in_time for _, in_time in taken)]))


if __name__ == "__main__":
    main()
