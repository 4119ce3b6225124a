"""The confusion matrix: who is taken for whom, how sure the network is of it, and what a few epochs more change."""

import argparse

import cutaway
from cutaway.datasets import load
from cutaway.evaluation import evaluate
from cutaway.inspect import class_scores, compare_answers, measure_calibration

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--out", default="runs/confusion-matrix")
options = parser.parse_args()

test = load("fashion-mnist-sample").test
answers = {}
for name, epochs in (("short", 1), ("long", options.epochs)):
    settings = cutaway.TrainSettings(network="fashion-cnn-bn", epochs=epochs, lr=0.01, out=f"{options.out}/{name}")
    trained = cutaway.train(settings)
    answers[name] = evaluate(trained.restored.network, test, trained.restored.preprocessing)

classes = trained.restored.classes
scores = class_scores(answers["long"], classes)
print("rows are the truth, columns the prediction")
print(" " * 12 + " ".join(f"{label[:6]:>6}" for label in classes))
for label, row in zip(classes, scores.matrix, strict=True):
    print(f"{label:12}" + " ".join(f"{count:6}" for count in row))
for pair in scores.top_confusions(3):
    print(f"{pair.truth} taken for {pair.prediction} {pair.times} of {pair.support} times")

calibration = measure_calibration(answers["long"])
print(f"{calibration.mean_confidence:.1%} sure, {calibration.accuracy:.1%} right on average; ECE {calibration.ece:.3f}")
changed = compare_answers(answers["short"], answers["long"])
print(
    f"after {options.epochs} epochs instead of 1: {len(changed.mended)} pictures mended, {len(changed.broken)} broken; "
    f"by chance alone so uneven in {changed.p_value:.2g} of cases"
)
