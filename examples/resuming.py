"""Resuming: a training that is interrupted and goes on computes the same bits as one that never was.

Ctrl+C, a full disk, `kill -9` or a power cut do as well; here a callback sends the signal, in the middle of an epoch.
"""

import argparse
import signal

import cutaway

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--stop-after", type=int, default=30, help="steps")
parser.add_argument("--image-size", type=int, default=28)
parser.add_argument("--out", default="runs/resuming")
options = parser.parse_args()


class Stop(cutaway.Callback):
    """Interrupts a training as Ctrl+C does."""

    def on_step(self, event: cutaway.train.StepDone) -> None:
        """After so many steps."""
        if event.step == options.stop_after:
            signal.raise_signal(signal.SIGINT)


settings = cutaway.TrainSettings(
    network="resnet-small",
    network_arguments={"width": 4, "dropout": 0.2},
    augment=("crop:2", "flip"),
    image_size=options.image_size,
    epochs=options.epochs,
    batch_size=128,
)
whole = settings.changed(out=f"{options.out}/whole")
stopped = settings.changed(out=f"{options.out}/stopped")

uninterrupted = cutaway.train(whole)
try:
    cutaway.train(stopped, callbacks=[Stop()])
except cutaway.Interrupted as interruption:
    print(interruption.said)
resumed = cutaway.train(stopped, on_note=print)

for name in ("model", "optimizer", "training"):
    hashes = [each.last.manifest.files[f"{name}.safetensors"].digest for each in (uninterrupted, resumed)]
    print(f"{name:9} {hashes[0][:16]} {hashes[1][:16]} {'the same' if hashes[0] == hashes[1] else 'DIFFERENT'}")
print(f"test accuracy {uninterrupted.test_accuracy:.4f} and {resumed.test_accuracy:.4f}")
