"""Test accuracy of `resnet-small` on the full Fashion-MNIST with default settings, and the time that it took.

Run: python benchmarks/accuracy.py [EPOCHS]
"""

import sys
import tempfile
import time
from pathlib import Path

import torch

from cutaway.train import TrainSettings, train

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
with tempfile.TemporaryDirectory() as folder:
    settings = TrainSettings(data="fashion-mnist", network="resnet-small", epochs=epochs, out=Path(folder) / "run")
    began = time.perf_counter()
    trained = train(
        settings,
        on_epoch=lambda m: print(f"epoch {m.epoch}: valid {m.valid_accuracy:.4f}, {m.seconds:.0f} s", flush=True),
    )
    seconds = time.perf_counter() - began
print(f"test accuracy {trained.test_accuracy:.4f} in {epochs} epochs and {seconds:.0f} s")
print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {settings.device}")
