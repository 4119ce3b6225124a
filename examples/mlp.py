"""A multilayer perceptron: what a hidden layer adds, and what its width costs."""

import argparse

import cutaway
from cutaway.inspect import layer_table

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--hidden", type=int, nargs="+", default=[16, 128, 512])
parser.add_argument("--out", default="runs/mlp")
options = parser.parse_args()

for hidden in options.hidden:
    settings = cutaway.TrainSettings(
        network="mlp",
        network_arguments={"hidden": hidden},
        epochs=options.epochs,
        batch_size=100,
        out=f"{options.out}/{hidden}",
    )
    trained = cutaway.train(settings)
    parameters = layer_table(trained.restored.network, trained.restored.spec.input_shape).totals.parameters
    train_accuracy = trained.best.manifest.metrics["train_accuracy"]
    print(
        f"{hidden:4} hidden units  {parameters:8,} parameters  "
        f"accuracy {train_accuracy:.3f} in training, {trained.test_accuracy:.3f} in the test"
    )
