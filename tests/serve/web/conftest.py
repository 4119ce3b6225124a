"""A browser with WebGPU, a plain file server, and ONNX Runtime Web where npm gives it."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cutaway.errors import ExportError
from cutaway.serve.web.runtime import BUILDS, PACKAGE, Runtime, fetch_runtime


@pytest.fixture(scope="session")
def pretended() -> Runtime:
    """What has the form of ONNX Runtime Web and does nothing."""
    files = {}
    for module, glue, wasm in BUILDS.values():
        files |= {module: b"/*!\n * ONNX Runtime Web v1.2.3\n */", glue: b"export default 0;", wasm: b"\0asm\1\0\0\0"}
    return Runtime("1.2.3", files)


@pytest.fixture(scope="session")
def runtime() -> Runtime:
    """The real one; fetched, or from npm's own cache."""
    if shutil.which("npm") is None:
        pytest.skip(f"no npm to fetch {PACKAGE} with: apt-get install npm")
    try:
        return fetch_runtime()
    except ExportError as error:
        if "could not fetch" not in error.message:
            raise
        pytest.skip(f"{PACKAGE} is not to be had here: {error.message}")


@pytest.fixture
def browser_with_gpu(launch: Any) -> Iterator[Any]:
    """With WebGPU, computed on the CPU."""
    chromium = launch("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--use-vulkan=swiftshader")
    yield chromium
    chromium.close()


class FileServer:
    """Python's own file server, which sends no special headers and knows no `.mjs`.

    Attributes:
        url: Of its root.
        asked: The paths that were asked for.
    """

    def __init__(self, folder: Path) -> None:
        asked: list[str] = []

        class Handler(http.server.SimpleHTTPRequestHandler):
            extensions_map = {"": "application/octet-stream", ".html": "text/html", ".js": "text/javascript",
                              ".css": "text/css"}  # fmt: skip

            def log_message(self, *_: object) -> None:
                asked.append(self.path)

        handler = functools.partial(Handler, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.asked = asked
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def stop(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Any]:
    """Serves folders until the test is over, or `stop` is called."""
    servers: list[FileServer] = []

    def start(folder: Path) -> FileServer:
        servers.append(FileServer(folder))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def photos() -> list[np.ndarray]:
    """Twenty cuts of real photos, of many sizes, uint8 [H, W, 3]."""
    data = pytest.importorskip("skimage.data")
    whole = [data.chelsea(), data.coffee(), data.rocket(), data.astronaut()]
    noise = np.random.default_rng(0)
    cuts = []
    for number in range(20):
        photo = whole[number % len(whole)]
        height, width = (int(noise.integers(90, side)) for side in photo.shape[:2])
        top, left = (int(noise.integers(0, room + 1)) for room in (photo.shape[0] - height, photo.shape[1] - width))
        cuts.append(np.ascontiguousarray(photo[top : top + height, left : left + width]))
    return cuts


@pytest.fixture(scope="session")
def photo_model(tmp_path_factory: pytest.TempPathFactory, photos: list[np.ndarray]) -> Path:
    """A network for 224 pixels in colour with random weights, whose head is spread so that its answers differ."""
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    from cutaway.preprocessing.spec import imagenet
    from cutaway.serve.export import export_module

    preprocessing = imagenet()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=12)
        inputs = torch.from_numpy(preprocessing.normalise(np.stack([preprocessing.picture(one) for one in photos])))
        network.train()(inputs)  # the statistics of its normalisation
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
                module.reset_running_stats()
        network(inputs)
        logits = network.eval()(inputs)
        scale = 2 / logits.std(dim=0).clamp(min=1e-6)
        network.fc.weight.mul_(scale[:, None])
        network.fc.bias.copy_((network.fc.bias - logits.mean(dim=0)) * scale)
    path = tmp_path_factory.mktemp("photo") / "photo.onnx"
    classes = [f"kind {number}" for number in range(12)]
    export_module(network, preprocessing, classes, path, images=photos[:8])
    return path
