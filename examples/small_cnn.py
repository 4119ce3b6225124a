"""The small convolutional network: shapes from layer to layer, training, and the classes that it mixes up."""

import argparse

import cutaway
from cutaway.inspect import layer_table

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--out", default="runs/small-cnn")
options = parser.parse_args()

settings = cutaway.TrainSettings(network="fashion-cnn", epochs=options.epochs, batch_size=100, out=options.out)
trained = cutaway.train(settings)

network, shape = trained.restored.network, trained.restored.spec.input_shape
for row in layer_table(network, shape).rows:
    if row.is_leaf:
        print(f"{row.name:8} {row.kind:10} {list(row.output_shapes[0][1:])!s:14} {row.parameters:6,} parameters")

print(f"test accuracy {trained.test_accuracy:.3f}")
confusion = trained.test.confusion.copy()
for index in range(len(confusion)):
    confusion[index, index] = 0
truth, taken_for = divmod(int(confusion.argmax()), len(confusion))
names = trained.restored.classes
times = f"{confusion.max()} of {trained.test.support[truth]} times"
print(f"mixed up most often: {names[truth]} for {names[taken_for]}, {times}")
