"""What a bundle costs, next to `torch.save` and others, for torchvision's ResNet-50 with Adam's state.

Every round measures each way once, one after the other, so that a machine that is busy with something else is busy
with all of them; the ratios are taken round by round, and their median is what counts.

Run: python benchmarks/checkpoints.py [ROUNDS]
"""

import contextlib
import io
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp

from cutaway.checkpoints import read_tensors, verify_bundle, write_bundle
from cutaway.checkpoints.environment import environment
from cutaway.checkpoints.manifest import Data, Manifest, Monitored, Progress
from cutaway.checkpoints.optimizer_state import named_state
from cutaway.checkpoints.saving import Saver
from cutaway.networks import NetworkSpec, build
from cutaway.preprocessing import Preprocessing

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 9
GOALS = {  # way -> (against what, the goal)
    "cutaway, blocked by an asynchronous save": ("torch.save", 0.15),
    "cutaway, synchronous verified save": ("torch.save", 1.5),
    "cutaway, verified load": ("torch.load(weights_only=True)", 1.2),
}


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    spec = NetworkSpec(name="torchvision:resnet50", num_classes=1000, input_shape=(3, 224, 224))
    network = build(spec)
    optimizer = torch.optim.Adam(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f} before; {ROUNDS} rounds; seconds are medians"
    )
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        ways = Ways(Path(folder), network, optimizer, spec)
        seconds = measure(ways)
        seconds["gradients beside an asynchronous save"] = ways.beside[-ROUNDS:]
        for name, values in seconds.items():
            print(f"{name:52} {statistics.median(values):7.3f} s   ({min(values):.3f} to {max(values):.3f})")
        print()
        for name, others in (
            ("cutaway, blocked by an asynchronous save", ("torch.save", "dcp.async_save, blocked")),
            ("cutaway, synchronous verified save", ("torch.save", "torch.save and fsync", "dcp.save", "Fabric.save")),
            ("cutaway, verified load", ("torch.load(weights_only=True)",)),
        ):
            for other in others:
                if other in seconds:
                    tell_ratio(name, other, seconds)
        if "Fabric.save" not in seconds:
            print("Lightning: not installed (pip install lightning)")
        print()
        for name, size in ways.sizes().items():
            print(f"{name:52} {size / 1e6:7.1f} MB on disk")
        for name, size in ways.peaks.items():
            print(f"{name:52} {size / 1e6:7.1f} MB more memory at its peak")
        print(f"{'buffers that a Saver keeps':52} {ways.buffers() / 1e6:7.1f} MB")


def measure(ways: "Ways") -> dict[str, list[float]]:
    """Seconds of each way in each round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways.all}
    for number in range(ROUNDS + 1):
        for name, way in ways.all.items():
            ways.clear()
            with memory_growth(name, ways.peaks if number else {}):
                taken = way()
            if number:
                seconds[name].append(taken)
    return seconds


class Ways:
    """Each way saves or loads the same tensors and gives the seconds that it took."""

    def __init__(
        self, folder: Path, network: torch.nn.Module, optimizer: torch.optim.Optimizer, spec: NetworkSpec
    ) -> None:
        self.folder = folder
        self.network, self.optimizer = network, optimizer
        self.peaks: dict[str, int] = {}
        self.saver = Saver()
        self.pictures = torch.randn(2, 3, 224, 224)
        self.beside: list[float] = []
        states, groups = named_state(network, optimizer)
        self.tensors = {
            "model": network.state_dict(),
            "optimizer": states,
            "training": {"generator/torch": torch.get_rng_state()},
        }
        self.steady = {("model", name) for name, _ in network.named_parameters()} | {("optimizer", n) for n in states}
        self.state = {"model": network.state_dict(), "optimizer": optimizer.state_dict()}
        self.manifest = Manifest(
            network=spec,
            classes=tuple(str(number) for number in range(spec.num_classes)),
            preprocessing=Preprocessing(size=(224, 224), mean=(0.5,) * 3, std=(0.25,) * 3),
            progress=Progress(epoch=1, batch=0, step=1),
            phase="validated",
            metrics={"valid_accuracy": 0.5},
            monitored=Monitored(metric="valid_accuracy", mode="max"),
            configuration={},
            optimizer=groups,
            data=Data(name="none", fingerprint="none", source="none", sizes={}),
            environment=environment(torch.device("cpu")),
            created="2026-01-01T00:00:00+00:00",
            files={},
        )
        self.all = {
            "torch.save": self.torch_save,
            "torch.save and fsync": lambda: self.torch_save(sync=True),
            "cutaway, synchronous verified save": self.write,
            "cutaway, blocked by an asynchronous save": self.blocked,
            "gradients of two pictures, alone": lambda: timed(self.gradients),
            "dcp.save": self.dcp_save,
            "dcp.async_save, blocked": self.dcp_blocked,
            "torch.load(weights_only=True)": self.torch_load,
            "cutaway, verified load": self.verified_load,
        }
        with contextlib.suppress(ImportError):
            from lightning.fabric import Fabric

            fabric = Fabric(accelerator="cpu", devices=1)
            self.all["Fabric.save"] = lambda: timed(lambda: fabric.save(self.folder / "fabric.ckpt", self.state))
        # To load from, and into.
        torch.save(self.state, folder / "kept.pt")
        write_bundle(folder / "kept", self.manifest, self.tensors)
        self.targets = [torch.empty_like(tensor) for group in ("model", "optimizer") for tensor in self.flat(group)]

    def torch_save(self, *, sync: bool = False) -> float:
        file = self.folder / "saved.pt"

        def save() -> None:
            torch.save(self.state, file)
            if sync:
                descriptor = os.open(file, os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)

        return timed(save)

    def write(self) -> float:
        return timed(lambda: write_bundle(self.folder / "step-00000001", self.manifest, self.tensors))

    def blocked(self) -> float:
        """What the loop waits for: the call, and before the next update whatever is not copied by then."""
        path = self.folder / "step-00000001"
        seconds = timed(
            lambda: self.saver.save(path, self.manifest, self.tensors, after=lambda: None, steady=self.steady)
        )
        self.beside.append(timed(self.gradients))
        seconds += timed(self.saver.before_update)
        self.saver.wait()
        return seconds

    def gradients(self) -> None:
        """The next step up to its update, on two pictures only: a larger batch would hide more."""
        self.network(self.pictures).sum().backward()
        self.network.zero_grad()

    def dcp_save(self) -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            return timed(lambda: dcp.save(self.tensors, checkpoint_id=self.folder / "dcp"))

    def dcp_blocked(self) -> float:
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        futures = []
        seconds = timed(lambda: futures.append(dcp.async_save(self.tensors, checkpoint_id=self.folder / "dcp")))
        futures[0].result()
        return seconds

    def torch_load(self) -> float:
        """To the end: one copies from the page cache now, the other only when the tensors are used."""

        def load() -> None:
            state = torch.load(self.folder / "kept.pt", weights_only=True)
            entries = [entry[key] for entry in state["optimizer"]["state"].values() for key in sorted(entry)]
            self.fill([*state["model"].values(), *entries])

        return timed(load)

    def verified_load(self) -> float:
        def load() -> None:
            manifest = verify_bundle(self.folder / "kept")
            model = read_tensors(self.folder / "kept", manifest, "model", verified=True)
            optimizer = read_tensors(self.folder / "kept", manifest, "optimizer", verified=True)
            self.fill([*(model[name] for name in self.tensors["model"]), *(optimizer[name] for name in self.order())])

        return timed(load)

    def fill(self, tensors: list[torch.Tensor]) -> None:
        for target, tensor in zip(self.targets, tensors, strict=True):
            target.copy_(tensor)

    def order(self) -> list[str]:
        """The optimizer's tensors as its own state dict has them."""
        names = [name for name, _ in self.network.named_parameters()]
        return [f"{name}/{key}" for name in names for key in ("exp_avg", "exp_avg_sq", "step")]

    def flat(self, group: str) -> list[torch.Tensor]:
        names = self.order() if group == "optimizer" else self.tensors[group]
        return [self.tensors[group][name] for name in names]

    def sizes(self) -> dict[str, int]:
        self.clear()
        self.dcp_save()
        sizes = {"cutaway's bundle": size(self.folder / "kept"), "torch.save's file": size(self.folder / "kept.pt")}
        return sizes | {"dcp.save's directory": size(self.folder / "dcp")}

    def buffers(self) -> int:
        return sum(
            tensor.numel() * tensor.element_size() for group in self.tensors.values() for tensor in group.values()
        )

    def clear(self) -> None:
        """Away with what the round before wrote, and with what the disk still has to do for it."""
        for name in ("step-00000001", "dcp"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for name in ("saved.pt", "fabric.ckpt"):
            (self.folder / name).unlink(missing_ok=True)
        os.sync()


def timed(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def tell_ratio(name: str, other: str, seconds: dict[str, list[float]]) -> None:
    ratios = [mine / theirs for mine, theirs in zip(seconds[name], seconds[other], strict=True)]
    ratio = statistics.median(ratios)
    verdict = ""
    if name in GOALS and GOALS[name][0] == other:
        goal = GOALS[name][1]
        verdict = f"goal {goal}: {'met' if ratio <= goal else 'MISSED'}"
    print(f"{name} / {other:30} {ratio:6.3f}   ({min(ratios):.3f} to {max(ratios):.3f})   {verdict}")


@contextlib.contextmanager
def memory_growth(name: str, peaks: dict[str, int]):
    """Notes by how much resident memory grew at its peak; Linux forgets the peak before when asked to."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
    except OSError:
        yield
        return
    yield
    peaks[name] = max(peaks.get(name, 0), _status("VmHWM") - before)


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.rglob("*"))


if __name__ == "__main__":
    main()
