"""What `cutaway train` costs and gains, next to the loop of course notes, a loop by hand, and others.

Parts: `loops` (an epoch's time a picture), `accuracy` (seconds to 0.90 on the test pictures), `folder` (pictures a
second from JPEG files at 224), `memory` (of a folder run, with one and with four times as many pictures). Every round
measures each way once, one after the other, so that a machine that is busy with something else is busy with all of
them; ratios are taken round by round, and their median is what counts.

Run: python benchmarks/training.py [PART ...] [--rounds N] [--device cpu]
"""

import argparse
import contextlib
import gzip
import logging
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchvision
from measuring.rounds import measured, spread, tell_ratio
from PIL import Image
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.transforms import v2

from cutaway.batches import Feed
from cutaway.checkpoints import Run, restore
from cutaway.datasets import load
from cutaway.evaluation import evaluate
from cutaway.networks import NetworkSpec, build
from cutaway.preprocessing import Preprocessing
from cutaway.train import TrainSettings, train
from cutaway.train.augmentation import Augmenter

SPEC = NetworkSpec(name="fashion-cnn-bn", num_classes=10, input_shape=(1, 28, 28))
NOTES = {"batch_size": 1000, "optimizer": "adam", "lr": 0.01, "schedule": "constant", "warmup_steps": 0}
NOTES |= {"weight_decay": 0.0, "network": "fashion-cnn-bn", "data": "fashion-mnist"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", default=["loops", "accuracy", "folder", "memory"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder-run", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--way", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if asked.folder_run:
        folder_run(*asked.folder_run)
        return
    if asked.way:
        name, scratch = asked.way
        way = loop_ways(Path(scratch), torch.device(asked.device))[name]
        way()
        print(f"seconds: {way()}")
        return
    name = torch.cuda.get_device_name() if asked.device.startswith("cuda") else "CPU"
    print(
        f"torch {torch.__version__}, {name}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f} before; {asked.rounds} rounds; medians"
    )
    parts = {"loops": loops, "accuracy": accuracy, "folder": folder, "memory": memory}
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        for part in asked.parts:
            print(f"\n{part}")
            parts[part](Path(scratch), torch.device(asked.device), asked.rounds)


# An epoch -----------------------------------------------------------------------------------------------------------


def loops(scratch: Path, device: torch.device, rounds: int) -> None:
    """Microseconds a picture of one epoch of the full Fashion-MNIST, training batches only.

    Each in a process of its own, where it is measured after one epoch that does not count: what one does to the
    process, as to its allocator, must not be another's gain or loss.
    """
    names = list(loop_ways(scratch, device))

    def alone(name: str) -> float:
        words = [sys.executable, __file__, "--way", name, str(scratch), "--device", str(device)]
        said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        return float(said.rpartition("seconds: ")[2])

    seconds = measured({name: partial(alone, name) for name in names}, rounds, warm_up=False)
    for name, values in seconds.items():
        print(f"{name:40} {1e6 * statistics.median(values):8.1f} us a picture   ({spread(values, 1e6)})")
    best = min((name for name in seconds if name.startswith("the notes'")), key=lambda n: statistics.median(seconds[n]))
    print(f"the best of the notes' loops: {best}")
    tell_ratio(best, "cutaway train", seconds, at_least=2.5)
    tell_ratio(best, "cutaway train, bf16", seconds, at_least=3.0)
    tell_ratio("cutaway train", "a bare loop in memory", seconds, at_most=1.05)
    tell_ratio("cutaway train, bf16", "a bare loop in memory, bf16", seconds, at_most=1.05)
    for name in seconds:
        if name.startswith(("Lightning", "timm")):
            tell_ratio(name, "cutaway train", seconds)


def loop_ways(scratch: Path, device: torch.device) -> dict[str, Callable[[], float]]:
    """The loops by name, each a function to the seconds a picture."""
    pictures = fashion_mnist(scratch)
    images = torch.from_numpy(np.ascontiguousarray(pictures.data.numpy()))
    labels = pictures.targets.clone()
    ways: dict[str, Callable[[], float]] = {
        f"the notes' loop, {workers} workers": lambda workers=workers: notes_epoch(pictures, workers, device)
        for workers in (0, 1, 2)
    }
    ways["a bare loop in memory"] = lambda: bare_epoch(images, labels, device)
    ways["a bare loop in memory, bf16"] = lambda: bare_epoch(images, labels, device, bf16=True)
    ways["cutaway train"] = lambda: cutaway_epoch(scratch, device)
    ways["cutaway train, bf16"] = lambda: cutaway_epoch(scratch, device, precision="bf16")
    return ways | peers(pictures, device)


def notes_epoch(pictures: torchvision.datasets.FashionMNIST, workers: int, device: torch.device) -> float:
    torch.manual_seed(0)
    network = build(SPEC).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    loader = DataLoader(pictures, batch_size=1000, num_workers=workers, shuffle=True)
    began = time.perf_counter()
    total_loss = total_correct = 0.0
    for batch in loader:
        inputs, targets = batch[0].to(device), batch[1].to(device)
        answers = network(inputs)
        loss = F.cross_entropy(answers, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total_loss += loss.item() * len(targets)
        total_correct += answers.argmax(dim=1).eq(targets).sum().item()
    return (time.perf_counter() - began) / len(pictures)


def bare_epoch(images: torch.Tensor, labels: torch.Tensor, device: torch.device, *, bf16: bool = False) -> float:
    """The least that a person would write who knows what `cutaway train` knows: nothing is saved, told or checked."""
    torch.manual_seed(0)
    network = build(SPEC).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, fused=True)
    images, labels = images.to(device), labels.to(device)
    began = time.perf_counter()
    for chosen in torch.randperm(len(images)).split(1000):
        at = chosen.to(device)
        inputs = (images[at].unsqueeze(1).float() / 255 - 0.286) / 0.353
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(network(inputs.contiguous(memory_format=torch.channels_last)), labels[at])
        loss.backward()
        optimizer.step()
    loss.item()
    return (time.perf_counter() - began) / len(images)


def cutaway_epoch(scratch: Path, device: torch.device, **changes: object) -> float:
    """From the epoch's own figures, as the journal has them: with logging, without validation and saving."""
    out = scratch / "run"
    shutil.rmtree(out, ignore_errors=True)
    trained = train(TrainSettings(**NOTES, epochs=1, out=out, device=str(device), **changes))
    return 1 / trained.metrics[0].images_per_second


def peers(pictures: torchvision.datasets.FashionMNIST, device: torch.device) -> dict[str, Callable[[], float]]:
    """Others' loops over the same network and pictures, where they are installed."""
    ways: dict[str, Callable[[], float]] = {}
    with contextlib.suppress(ImportError):
        import lightning

        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        ways["Lightning's Trainer, 2 workers"] = lambda: lightning_epoch(lightning, pictures, device)
    with contextlib.suppress(ImportError):
        import timm.data

        ways["timm's loader, 2 workers"] = lambda: timm_epoch(timm.data, pictures, device)
    if len(ways) < 2:
        print("(Lightning and timm are measured too where they are installed: pip install lightning timm)")
    return ways


def lightning_epoch(lightning, pictures, device: torch.device) -> float:
    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = build(SPEC)

        def training_step(self, batch, _):
            loss = F.cross_entropy(self.network(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.01)

        def on_train_epoch_start(self):
            self.began = time.perf_counter()

        def on_train_epoch_end(self):
            if device.type == "cuda":
                torch.cuda.synchronize()
            self.seconds = time.perf_counter() - self.began

    torch.manual_seed(0)
    module = Module()
    kind = "gpu" if device.type == "cuda" else "cpu"
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(max_epochs=1, accelerator=kind, devices=1, **quiet)
    trainer.fit(module, DataLoader(pictures, batch_size=1000, num_workers=2, shuffle=True))
    return module.seconds / len(pictures)


def timm_epoch(data, pictures, device: torch.device) -> float:
    """timm's loader as its training script makes it, and that script's step."""
    torch.manual_seed(0)
    network = build(SPEC).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    pictures = torchvision.datasets.FashionMNIST(pictures.root, train=True)
    loader = data.create_loader(
        pictures,
        input_size=(1, 28, 28),
        batch_size=1000,
        is_training=True,
        no_aug=True,
        mean=(0.286,),
        std=(0.353,),
        num_workers=2,
        use_prefetcher=False,
        device=device,
    )
    began = time.perf_counter()
    for inputs, targets in loader:
        inputs, targets = inputs.to(device), targets.to(device)
        loss = F.cross_entropy(network(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    loss.item()
    return (time.perf_counter() - began) / len(pictures)


# To 0.90 -------------------------------------------------------------------------------------------------------------


def accuracy(scratch: Path, device: torch.device, rounds: int) -> None:
    """Seconds of training, without measuring, until the test pictures are answered right in 90 of 100 cases."""
    del rounds
    pictures = fashion_mnist(scratch)
    test = torchvision.datasets.FashionMNIST(pictures.root, train=False)
    inputs, targets = (test.data.unsqueeze(1).float() / 255).to(device), test.targets.to(device)
    torch.manual_seed(0)
    network = build(SPEC).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    spent, reached, seen = 0.0, None, []
    loader = DataLoader(pictures, batch_size=1000, num_workers=1, shuffle=True)
    for epoch in range(1, 21):
        began = time.perf_counter()
        for images, labels in loader:
            loss = F.cross_entropy(network(images.to(device)), labels.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        spent += time.perf_counter() - began
        network.eval()
        with torch.inference_mode():
            seen.append((network(inputs).argmax(1) == targets).float().mean().item())
        network.train()
        if seen[-1] >= 0.9 and reached is None:
            reached = (epoch, spent)
    told = f"in epoch {reached[0]}, after {reached[1]:.1f} s" if reached else "not reached"
    print(f"the notes' recipe, 20 epochs, {spent:.1f} s: best {max(seen):.4f}; 0.90 {told}")
    for network_name in ("fashion-cnn-bn", "resnet-small"):
        out = scratch / f"default-{network_name}"
        settings = TrainSettings(data="fashion-mnist", network=network_name, out=out, keep_last=100, device=str(device))
        trained = train(settings)
        dataset = load("fashion-mnist", seed=settings.seed)
        spent, reached, seen = 0.0, None, []
        for metrics, bundle in zip(trained.metrics, Run(out).bundles(), strict=True):
            spent += metrics.seconds
            restored = restore(bundle.path, device=device)
            seen.append(evaluate(restored.network, dataset.test, restored.preprocessing, device=device).accuracy)
            if seen[-1] >= 0.9 and reached is None:
                reached = (metrics.epoch, spent)
        told = f"in epoch {reached[0]}, after {reached[1]:.1f} s" if reached else "not reached"
        print(f"cutaway's default recipe, {network_name}, {settings.epochs} epochs, {spent:.1f} s: ", end="")
        print(f"last {seen[-1]:.4f}, best {max(seen):.4f}; 0.90 {told}")


# Folders -------------------------------------------------------------------------------------------------------------


def folder(scratch: Path, device: torch.device, rounds: int) -> None:
    """Pictures a second from 5,000 JPEG files to batches at 224, augmented by a random crop and a flip."""
    place = jpegs(scratch, 5000)
    ways = {
        "torchvision's reference loader, 2 workers": lambda: reference_loader(place),
        "cutaway's feed, 2 workers": lambda: feed_loader(place),
    }
    seconds = measured(ways, max(2, rounds // 2))
    for name, values in seconds.items():
        print(f"{name:44} {1 / statistics.median(values):7.0f} pictures a second")
    tell_ratio("torchvision's reference loader, 2 workers", "cutaway's feed, 2 workers", seconds)
    settings = TrainSettings(**folder_settings(place, scratch / "waits"), device=str(device))
    metrics = train(settings).metrics[0]
    print(
        f"training {settings.network} on them: {metrics.images_per_second:.0f} pictures a second, "
        f"{100 * metrics.wait_seconds / metrics.seconds:.1f} % of the time waiting for data"
    )


def reference_loader(place: Path) -> float:
    """As in torchvision's references/classification: decode, random crop, flip, normalise, in workers."""
    to_input = v2.Compose(
        [
            v2.RandomResizedCrop(224, antialias=True),
            v2.RandomHorizontalFlip(0.5),
            v2.PILToTensor(),
            v2.ToDtype(torch.float, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    pictures = torchvision.datasets.ImageFolder(str(place), to_input)
    began = time.perf_counter()
    for _ in DataLoader(pictures, batch_size=64, shuffle=True, num_workers=2):
        pass
    return (time.perf_counter() - began) / len(pictures)


def feed_loader(place: Path) -> float:
    settings = TrainSettings(**folder_settings(place, Path("unused")))
    split = load(settings.data, seed=0).train
    wanted = Preprocessing(size=(224, 224), resize="shorter", resize_to=256, mean=(0.45,) * 3, std=(0.22,) * 3)
    feed, augmenter = Feed(split, wanted, workers=2), Augmenter(settings, wanted)
    began = time.perf_counter()
    for batch in feed.batches(64, torch.randperm(len(feed)), prepare=partial(augmenter.photo, epoch=0)):
        feed.normalised(feed.pictures(batch))
    return (time.perf_counter() - began) / len(feed)


def folder_settings(place: Path, out: Path) -> dict[str, object]:
    light: dict[str, object] = {
        "network": "torchvision:mobilenet_v3_small",
        "image_size": 224,
        "batch_size": 64,
        "epochs": 1,
    }
    augment = ("resized-crop", "flip")
    return light | {"data": f"folder:{place}", "out": out, "memory_limit": 0, "workers": 2, "augment": augment}


def memory(scratch: Path, device: torch.device, rounds: int) -> None:
    """Peak resident memory of a folder run, its workers' included, with 1,250 and with 5,000 pictures."""
    del device, rounds
    peaks = []
    for count in (1250, 5000):
        place = jpegs(scratch, count)
        words = [sys.executable, __file__, "--folder-run", str(place), str(scratch / f"memory-{count}")]
        said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        own, worker = (int(word) for word in said.split()[-2:])
        peaks.append(own + worker)
        print(f"{count:6,} pictures: {own / 1e6:7.0f} MB, and {worker / 1e6:.0f} MB the largest worker")
    print(f"four times the pictures over once: {peaks[1] / peaks[0]:.3f}")


def folder_run(place: str, out: str) -> None:
    changes = {"network": "lenet5", "image_size": 64, "batch_size": 64}
    train(TrainSettings(**folder_settings(Path(place), Path(out)) | changes))
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        print(resource.getrusage(who).ru_maxrss * 1024)


def jpegs(scratch: Path, count: int) -> Path:
    """Parts of real photographs at about 500x375, in four class folders."""
    place = scratch / f"jpegs-{count}"
    if place.is_dir():
        return place
    from skimage import data

    draw = np.random.default_rng(0)
    photos = {"cat": data.chelsea(), "coffee": data.coffee(), "rocket": data.rocket(), "face": data.astronaut()}
    for name, photo in photos.items():
        (place / name).mkdir(parents=True)
        large = Image.fromarray(photo).resize((900, 700))
        for number in range(count // 4):
            left, top = draw.integers(0, 400), draw.integers(0, 325)
            large.crop((left, top, left + 500, top + 375)).save(place / name / f"{number}.jpg", quality=90)
    return place


# Pictures ------------------------------------------------------------------------------------------------------------


def fashion_mnist(scratch: Path) -> torchvision.datasets.FashionMNIST:
    """torchvision's own data set over the files of Debian's package."""
    raw = scratch / "FashionMNIST" / "raw"
    if not raw.is_dir():
        raw.mkdir(parents=True)
        for file in Path("/usr/share/datasets/fashion-mnist").glob("*.gz"):
            (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    return torchvision.datasets.FashionMNIST(str(scratch), train=True, transform=transforms.ToTensor())


if __name__ == "__main__":
    main()
