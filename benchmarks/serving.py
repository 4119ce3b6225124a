"""What cutaway's server costs, next to a server by hand and to others, under eight clients.

Parts: `speed` (requests a second, and how long one waits), `start` (seconds until the first picture is answered),
`memory` (resident memory after many requests over that after a tenth of them). All serve a ResNet-18 with random
weights, exported by cutaway with its preprocessing in the graph, and are sent JPEG pictures of 224 by 224 as forms;
nobody is asked for a heat-map. The servers run all the time, each in a process of its own, and the clients in another.
In every round each is asked for a few seconds, one after the other, so that a machine that is busy with something else
is busy with all of them; ratios are taken round by round, and their median is what counts.

LitServe is measured where it can be imported, e.g. after
`pip install --target peers --no-deps litserve pyzmq uvloop httptools` with `--peers peers`.

Run: python benchmarks/serving.py [PART ...] [--rounds N] [--seconds S] [--requests N] [--servers NAME ...]
     [--peers FOLDER] [--options "OPTIONS OF CUTAWAY SERVE"]
"""

import argparse
import contextlib
import http.client
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import fastapi
import numpy as np
import onnxruntime
import torch
import torchvision
from measuring.clients import SPEECHES, Load
from measuring.processes import Server, free_port, running
from measuring.rounds import Peers, goal_told, measured, tell_all, tell_ratio
from PIL import Image
from skimage import data
from torch import nn

from cutaway.preprocessing import imagenet
from cutaway.serve.export import export_module

CUTAWAY, WITH_OPTIONS, BARE = "cutaway", "cutaway, options", "bare FastAPI"
LITSERVE, GRADIO, EAGER = "LitServe", "plain Gradio", "eager FastAPI"
SERVERS = Path(__file__).parent / "servers"
CLASSES = [f"class {number}" for number in range(1000)]
CLIENTS = 8
PEERS = Peers()


@dataclass(frozen=True)
class Way:
    """How a server is started and asked.

    Attributes:
        words: What Python is to run; the port comes last, or before what `after` holds.
        path: That pictures are posted to.
        speech: How, see `measuring.clients`.
        after: Words after the port.
    """

    words: tuple[object, ...]
    path: str = "/classify"
    speech: str = "form"
    after: tuple[object, ...] = ()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["start", "speed", "memory"], metavar="PART")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=3.0, help="that each server is asked in a round")
    parser.add_argument("--requests", type=int, default=10_000, help="after which memory is measured")
    parser.add_argument("--servers", nargs="+", metavar="NAME", help="measure these alone")
    parser.add_argument("--peers", type=Path, help="folder to import LitServe from")
    parser.add_argument("--options", default="", help="of cutaway serve, measured beside it without them")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if asked.peers:
        sys.path.append(str(asked.peers))
    print(
        f"onnxruntime {onnxruntime.__version__}, fastapi {fastapi.__version__}, torch {torch.__version__}, CPU, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; {CLIENTS} clients; medians"
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        scratch = Path(place)
        ways = servers(scratch, asked.peers, asked.options)
        if asked.servers:
            ways = {name: ways[name] for name in asked.servers}
        load = Load(jpegs(scratch), CLIENTS)
        for part in asked.parts:
            print(f"\n{part}")
            if part == "speed":
                speed(ways, load, scratch, asked.rounds, asked.seconds)
            elif part == "start":
                start(ways, scratch, max(3, asked.rounds // 5))
            else:
                memory(ways, load, scratch, asked.requests)
    PEERS.tell_missing()


# What is served -----------------------------------------------------------------------------------------------------


def servers(scratch: Path, peers: Path | None, options: str) -> dict[str, Way]:
    """Each way to serve the same network."""
    network = random_network()
    model, weights, labels = scratch / "model.onnx", scratch / "weights.pt", scratch / "labels.json"
    torch.save(network.state_dict(), weights)
    export_module(network, imagenet(), CLASSES, model)
    labels.write_text(json.dumps(CLASSES))
    cutaway = ("-m", "cutaway", "serve", model)
    ways = {CUTAWAY: Way((*cutaway, "--port"), "/v1/classify")}
    if options:
        ways[WITH_OPTIONS] = Way((*cutaway, *shlex.split(options), "--port"), "/v1/classify")
    ways[BARE] = Way((SERVERS / "bare_fastapi.py", model, labels))
    if PEERS.found("litserve", LITSERVE):
        after = () if peers is None else (peers.resolve(),)
        ways[LITSERVE] = Way((SERVERS / "lit.py", model, labels), after=after)
    ways[GRADIO] = Way((SERVERS / "plain_gradio.py", model, labels), "/gradio_api/call/classify", "gradio")
    ways[EAGER] = Way((SERVERS / "eager_fastapi.py", weights, labels))
    return ways


def random_network() -> nn.Module:
    torch.manual_seed(0)
    network = torchvision.models.resnet18()
    with torch.no_grad():
        for _ in range(10):  # so that its numbers stay within bounds
            network.train()(torch.randn(8, 3, 224, 224))
    return network.eval()


def jpegs(scratch: Path) -> Path:
    """Nine parts of real photographs."""
    folder = scratch / "pictures"
    folder.mkdir()
    for name, photo in {"cat": data.chelsea(), "coffee": data.coffee(), "face": data.astronaut()}.items():
        for left in (0, 60, 120):
            Image.fromarray(np.asarray(photo)[:300, left : left + 300]).resize((224, 224)).save(
                folder / f"{name}-{left}.jpg", quality=90
            )
    return folder


@contextlib.contextmanager
def started(way: Way, scratch: Path):
    """The server and the address that pictures go to."""
    port = free_port()
    picture = next((scratch / "pictures").glob("*.jpg")).read_bytes()

    def is_ready() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            SPEECHES[way.speech](connection, way.path, picture)
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        return True

    with running((*way.words, port, *way.after), is_ready, scratch / f"{port}.log") as server:
        yield server, f"http://127.0.0.1:{port}{way.path}"


# The parts ----------------------------------------------------------------------------------------------------------


def speed(ways: dict[str, Way], load: Load, scratch: Path, rounds: int, seconds: float) -> None:
    """Requests a second, milliseconds that one takes, and what it costs of all cores together.

    The cost hardly depends on how busy the machine is with something else; where it is idle otherwise, the servers are
    as fast as they are cheap.
    """
    waited: dict[str, list[float]] = {name: [] for name in ways}
    costs: dict[str, list[float]] = {name: [] for name in ways}
    with contextlib.ExitStack() as stack:
        running = {name: stack.enter_context(started(way, scratch)) for name, way in ways.items()}

        def rate(name: str) -> float:
            time.sleep(0.3)  # threads of the server before may still turn in wait for more
            server, address = running[name]
            before = server.cpu_seconds
            taken = load.for_seconds(address, ways[name].speech, seconds)
            costs[name].append((server.cpu_seconds - before) / len(taken.seconds))
            waited[name].extend(taken.seconds)
            return taken.in_time / seconds

        figures = measured({name: partial(rate, name) for name in ways}, rounds)
    tell_all(figures, 1, "requests/s")
    for name, values in waited.items():
        p50, p99 = np.percentile(values, (50, 99)) * 1e3
        cost = 1e3 * statistics.median(costs[name])
        print(f"{name:26} {p50:8.1f} ms p50   {p99:8.1f} ms p99   {cost:8.1f} ms of a core a request")
    for name in (CUTAWAY, WITH_OPTIONS):
        for other, goal in ((BARE, 0.9), (LITSERVE, 1.3), (GRADIO, None), (EAGER, None), (CUTAWAY, None)):
            if name in ways and other in ways and name != other:
                tell_ratio(name, other, figures, at_least=goal)


def start(ways: dict[str, Way], scratch: Path, rounds: int) -> None:
    """Seconds from the start of the process until a picture is answered."""

    def seconds(way: Way) -> float:
        with started(way, scratch) as (server, _):
            return server.seconds_to_ready

    figures = measured({name: partial(seconds, way) for name, way in ways.items()}, rounds)
    tell_all(figures, 1, "s")


def memory(ways: dict[str, Way], load: Load, scratch: Path, count: int) -> None:
    """Resident memory of cutaway's server, in megabytes, as requests go by."""
    for name in (CUTAWAY, WITH_OPTIONS):
        if name not in ways:
            continue
        with started(ways[name], scratch) as (server, address):
            sizes = [after(count // 10, server, address, load) for _ in range(10)]
        print(f"{name}: {', '.join(f'{size / 1e6:.0f}' for size in sizes)} MB after each {count // 10} requests")
        ratio = sizes[-1] / sizes[0]
        print(f"after {count} over after {count // 10}: {ratio:.3f}   {goal_told(ratio, at_most=1.05)}")


def after(count: int, server: Server, address: str, load: Load) -> int:
    load.requests(address, "form", count)
    return server.resident_bytes


if __name__ == "__main__":
    main()
