"""What looking inside costs, next to a plain forward pass and to the tools that people use today.

Parts: `cam` (Grad-CAM with logits of a ResNet-18 at 224, by cutaway and by captum, torch-cam and pytorch-grad-cam),
`layers` (the layer table, and torchinfo's), `capture` (every layer's output of a forward pass), `memory` (peak memory
of statistics over a data set, with one and with four times as many pictures). Every round measures each way once, one
after the other, so that a machine that is busy with something else is busy with all of them; ratios are taken round by
round, and their median is what counts.

The others are measured where they can be imported, e.g. after
`pip install --target peers --no-deps torchcam grad-cam ttach opencv-python-headless torchinfo` with `--peers peers`.

Run: python benchmarks/inspection.py [PART ...] [--rounds N] [--peers FOLDER]
"""

import argparse
import copy
import importlib
import inspect
import os
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torchvision
from measuring.rounds import Peers, goal_told, measured, tell_all, tell_ratio, timed
from torch import nn

from cutaway.hooks import capture
from cutaway.inspect import grad_cam, layer_table
from cutaway.networks.target_layers import find_target_layer

SHAPE = (3, 224, 224)
CLASS = 3
PEERS = Peers()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["cam", "layers", "capture", "memory"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peers", type=Path, help="folder to import the others from")
    parser.add_argument("--statistics-run", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if asked.statistics_run:
        statistics_run(asked.statistics_run)
        return
    if asked.peers:
        sys.path.append(str(asked.peers))
    print(
        f"torch {torch.__version__}, CPU, {torch.get_num_threads()} threads of {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f} before; {asked.rounds} rounds; medians"
    )
    parts = {"cam": cam, "layers": layers, "capture": captures, "memory": memory}
    for part in asked.parts:
        print(f"\n{part}")
        parts[part](asked.rounds)
    PEERS.tell_missing()


# Grad-CAM -----------------------------------------------------------------------------------------------------------


def cam(rounds: int) -> None:
    """Milliseconds of one Grad-CAM with logits, at the layer that everybody is told beforehand."""
    network = torchvision.models.resnet18().eval()
    for batch in (1, 16):
        inputs = torch.randn(batch, *SHAPE)
        target = find_target_layer(network, SHAPE)
        ways: dict[str, Callable[[], object]] = {
            "plain forward": partial(plain_forward, network, inputs),
            "cutaway": lambda inputs=inputs, target=target: grad_cam(network, inputs, target, CLASS),
            "cutaway, layer not told": lambda inputs=inputs: grad_cam(network, inputs, None, CLASS),
        }
        ways |= cam_peers(network, inputs)
        print(f"batch {batch}")
        figures = measured(timed(ways), rounds)
        tell_all(figures, 1e3, "ms")
        tell_ratio("cutaway", "plain forward", figures, at_most=1.05)
        tell_ratio("cutaway, layer not told", "plain forward", figures)
        goals = {"captum": 1.0, "torch-cam": 1.0, "pytorch-grad-cam": 0.4}
        for name, goal in goals.items():
            if name in figures:
                tell_ratio("cutaway", name, figures, at_most=goal)


def cam_peers(network: nn.Module, inputs: torch.Tensor) -> dict[str, Callable[[], object]]:
    """The others, on a network of their own: one of them leaves gradients in it, which cutaway would have to keep."""
    network = copy.deepcopy(network)
    ways: dict[str, Callable[[], object]] = {}
    if captum := PEERS.found("captum.attr", "captum"):
        explainer = captum.LayerGradCam(network, network.layer4)
        # It keeps the logits to itself: whoever wants them pays for another pass, which is not counted here.
        ways["captum"] = lambda: explainer.attribute(inputs, CLASS, relu_attributions=True)
    if torchcam := PEERS.found("torchcam.methods", "torch-cam"):

        def by_torchcam() -> object:
            # Its hooks would slow the others down, so they stay for this one call.
            with torchcam.GradCAM(network, target_layer="layer4") as extractor:
                return extractor(CLASS, network(inputs))

        ways["torch-cam"] = by_torchcam
    if grad_cams := PEERS.found("pytorch_grad_cam", "pytorch-grad-cam"):
        targets = importlib.import_module("pytorch_grad_cam.utils.model_targets")

        def by_pytorch_grad_cam() -> object:
            with grad_cams.GradCAM(model=network, target_layers=[network.layer4]) as explainer:
                maps = explainer(inputs, [targets.ClassifierOutputTarget(CLASS)] * len(inputs))
                return maps, explainer.outputs

        ways["pytorch-grad-cam"] = by_pytorch_grad_cam
    return ways


def plain_forward(network: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network(inputs)


# The layer table ----------------------------------------------------------------------------------------------------


def layers(rounds: int) -> None:
    """Milliseconds of one table of a ResNet-18 at 224."""
    network = torchvision.models.resnet18().eval()
    ways: dict[str, Callable[[], object]] = {"cutaway": lambda: layer_table(network, SHAPE)}
    if torchinfo := PEERS.found("torchinfo", "torchinfo"):
        ways["torchinfo"] = lambda: torchinfo.summary(network, (1, *SHAPE), verbose=0, device="cpu")
    figures = measured(timed(ways), rounds)
    tell_all(figures, 1e3, "ms")
    if "torchinfo" in figures:
        tell_ratio("cutaway", "torchinfo", figures)


# Capturing ----------------------------------------------------------------------------------------------------------


def captures(rounds: int) -> None:
    """Milliseconds of a forward pass that keeps what every layer returns."""
    network = torchvision.models.resnet18().eval()
    for batch in (1, 16):
        inputs = torch.randn(batch, *SHAPE)

        def full(inputs: torch.Tensor = inputs) -> object:
            with torch.no_grad(), capture(network) as captured:
                network(inputs)
            return captured

        print(f"batch {batch}")
        ways = {"plain forward": partial(plain_forward, network, inputs), "full capture": full}
        figures = measured(timed(ways), rounds)
        tell_all(figures, 1e3, "ms")
        tell_ratio("full capture", "plain forward", figures)


# Statistics over a data set -----------------------------------------------------------------------------------------


def memory(rounds: int) -> None:
    """Peak memory of statistics of every layer over a data set, in a process of its own."""
    if "keep" not in inspect.signature(capture).parameters:
        print("this version of cutaway keeps no statistics")
        return
    peaks = {}
    for count in (128, 512):
        words = [sys.executable, __file__, "--statistics-run", str(count)]
        told = subprocess.run(words, capture_output=True, text=True, check=True)
        peaks[count] = float(told.stdout)
        print(f"{count:5} pictures: {peaks[count]:7.0f} MB at most")
    ratio = peaks[512] / peaks[128]
    print(f"four times the pictures: {ratio:.3f} of the memory   {goal_told(ratio, at_most=1.05)}")


def statistics_run(count: int) -> None:
    network = torchvision.models.resnet18().eval()
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad(), capture(network, keep="stats") as captured:
        for _ in range(count // 16):
            network(torch.randn(16, *SHAPE, generator=noise))
    assert captured.statistics
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3))


if __name__ == "__main__":
    main()
