"""Batch normalisation: the same network with and without it, from the same seed and over the same batches."""

import argparse

import cutaway
from cutaway.checkpoints import Run

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--lr", type=float, default=0.01)
parser.add_argument("--out", default="runs/batch-norm")
options = parser.parse_args()


def train(network: str) -> list[float]:
    """The validation accuracy after each epoch."""
    settings = cutaway.TrainSettings(
        network=network,
        epochs=options.epochs,
        batch_size=100,
        lr=options.lr,
        seed=1,
        out=f"{options.out}/{network}",
    )
    trained = cutaway.train(settings)
    # All of its epochs, where `trained.metrics` has those that were trained just now.
    journal = Run(trained.run).journal()
    return [entry["valid_accuracy"] for entry in journal if entry["kind"] == "epoch"]


without, with_norm = train("fashion-cnn"), train("fashion-cnn-bn")
print("epoch  without  with batch norm")
for epoch, (a, b) in enumerate(zip(without, with_norm, strict=True), start=1):
    print(f"{epoch:5}  {a:7.3f}  {b:15.3f}")
