"""What an exported file costs, and what its heat-map adds, next to eager PyTorch.

A part is the name of a torchvision network, by default those of `FAMILIES`. Of each it tells: how long an export with
its verification takes and the tracing of it, the file's size, the worst difference of a probability and the smallest
correlation of a heat-map with PyTorch's; then milliseconds for one picture of 224 by 224 at batch 1: ONNX Runtime on
the plain file, ONNX Runtime on the file with its heat-map (both with their preprocessing in the graph), eager PyTorch's
forward pass, and its Grad-CAM (both on a tensor that is prepared already, the layer told).

Every round measures each way once, one after the other, so that a machine that is busy with something else is busy with
all of them; ratios are taken round by round, and their median is what counts. Weights are random, with BatchNorm's
statistics measured on the generated pictures that the exports are verified with.

Run: python benchmarks/export.py [PART ...] [--rounds N] [--threads N] [--profile]
"""

import argparse
import json
import os
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
import torchvision
from measuring.rounds import measured, tell_all, tell_ratio, timed
from torch import nn

from cutaway.inspect import grad_cam
from cutaway.networks.target_layers import find_target_layer
from cutaway.preprocessing import imagenet
from cutaway.serve.export import ExportResult, export_module
from cutaway.serve.export.generated import generated_pictures
from cutaway.serve.sessions import open_session

FAMILIES = [
    "resnet18",
    "efficientnet_b0",
    "mobilenet_v3_small",
    "convnext_tiny",
    "vit_b_16",
    "squeezenet1_1",
    "densenet121",
    "swin_t",
    "vgg11",
    "regnet_y_400mf",
    "shufflenet_v2_x1_0",
]
# With the map over plain, and with the map over eager Grad-CAM.
GOALS: dict[str, tuple[float | None, float | None]] = {"resnet18": (1.05, 0.75), "efficientnet_b0": (1.10, None)}
PREPROCESSING = imagenet()
CLASSES = [f"class {number}" for number in range(1000)]
PLAIN, WITH_MAP, FORWARD, CAM = "onnxruntime plain", "onnxruntime with map", "eager forward", "eager Grad-CAM"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=FAMILIES, metavar="PART")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of both engines")
    parser.add_argument("--profile", action="store_true", help="tell which operators the map adds")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(asked.threads)
    print(
        f"torch {torch.__version__}, onnxruntime {ort.__version__}, CPU, {asked.threads} threads of {os.cpu_count()} "
        f"cores, load {os.getloadavg()[0]:.1f} before; {asked.rounds} rounds; medians"
    )
    for name in asked.parts:
        print(f"\n{name}")
        with tempfile.TemporaryDirectory() as folder:
            family(name, Path(folder), asked.rounds, asked.threads, asked.profile)


def family(name: str, folder: Path, rounds: int, threads: int, profile: bool) -> None:
    network = random_network(name)
    seconds, tracing, result = exported(network, folder / "map.onnx", explain=True)
    _, _, plain = exported(network, folder / "plain.onnx", explain=False)
    figures = result.figures
    print(f"{'export':26} {seconds:8.1f} s    (of which tracing {tracing:.1f})")
    print(f"{'file':26} {result.num_bytes / 1e6:8.1f} MB   (plain {plain.num_bytes / 1e6:.1f})")
    print(f"{'probabilities':26} {figures.probability_difference:8.1e}      at worst from PyTorch's")
    correlation = float("nan") if figures.heatmap_correlation is None else figures.heatmap_correlation
    print(f"{'heat-maps':26} {correlation:8.6f}      smallest correlation with PyTorch's")
    times = measured(timed(ways(network, result, plain, threads)), rounds)
    tell_all(times, 1e3, "ms")
    over_plain, over_cam = GOALS.get(name, (None, None))
    tell_ratio(WITH_MAP, PLAIN, times, at_most=over_plain)
    tell_ratio(WITH_MAP, CAM, times, at_most=over_cam)
    tell_ratio(WITH_MAP, FORWARD, times)
    if profile:
        tell_operators(result, plain, threads, folder)


def random_network(name: str) -> nn.Module:
    """In evaluation mode, with statistics of its own activations, or no answer would depend on the picture."""
    torch.manual_seed(0)
    # Inception's heads that only training runs need pictures of 299.
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    network = torchvision.models.get_model(name, weights=None, **options).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train().momentum = None
        if isinstance(module, nn.Linear) and module.out_features == len(CLASSES):
            nn.init.normal_(module.weight, std=0.1)  # so that probabilities are not all alike
    with torch.no_grad():
        network(inputs_of(generated_pictures(PREPROCESSING)))
    return network.eval()


def exported(network: nn.Module, out: Path, *, explain: bool) -> tuple[float, float, ExportResult]:
    """Seconds of the export and of its tracing, and what came of it."""
    spent: Counter[str] = Counter()

    def track(items: Iterable[object], description: str, total: int | None = None) -> Iterator[object]:
        began = time.perf_counter()
        yield from items
        spent[description] += time.perf_counter() - began

    began = time.perf_counter()
    result = export_module(network, PREPROCESSING, CLASSES, out, explain=explain, track=track)
    return time.perf_counter() - began, spent["tracing"], result


def ways(
    network: nn.Module, result: ExportResult, plain: ExportResult, threads: int
) -> dict[str, Callable[[], object]]:
    picture = generated_pictures(PREPROCESSING)[0]
    inputs = inputs_of([picture])
    target = find_target_layer(network, PREPROCESSING.input_shape, result.metadata.target_layer)
    with_map, without = (open_session(one.path, "cpu", threads) for one in (result, plain))
    feed = feed_of(picture)
    names = ["probabilities", "heatmap"]
    return {
        PLAIN: lambda: without.run(["probabilities"], {"images": feed["images"]}),
        WITH_MAP: lambda: with_map.run(names, feed),
        FORWARD: partial(plain_forward, network, inputs),
        CAM: lambda: grad_cam(network, inputs, target),
    }


def plain_forward(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network(inputs)


def inputs_of(pictures: list[np.ndarray]) -> torch.Tensor:
    seen = np.stack([PREPROCESSING.picture(picture) for picture in pictures])
    return torch.from_numpy(PREPROCESSING.normalise(seen))


def feed_of(picture: np.ndarray) -> dict[str, np.ndarray]:
    """A picture of the size to which the graph would resize it, from which it cuts its centre: as served."""
    side = PREPROCESSING.resize_to
    assert side is not None
    height, width = PREPROCESSING.size
    framed = np.zeros((1, side, side, 3), np.uint8)
    top, left = PREPROCESSING.crop_offset(side, side)
    framed[0, top : top + height, left : left + width] = PREPROCESSING.picture(picture)
    return {"images": framed, "class_index": np.array([-1])}


def tell_operators(result: ExportResult, plain: ExportResult, threads: int, folder: Path) -> None:
    """Milliseconds a run of each kind of operator, and what the file with the map has more of."""
    times = [operators(one, threads, folder) for one in (result, plain)]
    more = {name: times[0][name] - times[1][name] for name in times[0] | times[1]}
    print(f"operators: {sum(times[0].values()):.1f} ms with map, {sum(times[1].values()):.1f} plain")
    for name, extra in sorted(more.items(), key=lambda each: -each[1])[:12]:
        print(f"  {name:24} {times[0][name]:7.2f} ms with map   {extra:+7.2f}")


def operators(result: ExportResult, threads: int, folder: Path, runs: int = 20) -> Counter[str]:
    options = ort.SessionOptions()
    options.enable_profiling, options.intra_op_num_threads = True, threads
    options.profile_file_prefix = str(folder / "profile")
    session = ort.InferenceSession(result.path, options)
    feed = feed_of(generated_pictures(PREPROCESSING)[0])
    wanted = {node.name for node in session.get_inputs()}
    for _ in range(runs):
        session.run(None, {name: value for name, value in feed.items() if name in wanted})
    events = json.loads(Path(session.end_profiling()).read_text())
    spent: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"] / 1e3 / runs
    return spent


if __name__ == "__main__":
    main()
