"""Tables of three answers, whose figures are counted on fingers."""

import torch

from cutaway.evaluation import Evaluation
from cutaway.metrics import measure
from cutaway.train.class_tables import LARGEST_CONFUSION, class_table, confusion_table


def measured(num_classes):
    """Of three samples: a 0 that is known, a 0 that is taken for 1, a 1 that is known."""
    logits = torch.full((3, num_classes), -9.0)
    logits[0, 0] = logits[1, 1] = logits[2, 1] = 9.0
    return measure(Evaluation(logits, torch.tensor([0, 0, 1])))


def test_figures_by_hand():
    lines = class_table(measured(3), ["cat", "dog", "cow"]).splitlines()
    assert lines[0] == "| class | samples | precision | recall | F1 | AUROC |"
    assert lines[2].startswith("| cat | 2 | 1.000 | 0.500 | 0.667 | ")
    assert lines[3].startswith("| dog | 1 | 0.500 | 1.000 | 0.667 | ")
    assert lines[4] == "| cow | 0 | - | - | - | - |"


def test_rows_of_the_matrix_are_the_truth():
    lines = confusion_table(measured(3), ["cat", "dog", "cow"]).splitlines()
    assert lines[2:] == ["| cat | 1 | 1 | 0 |", "| dog | 0 | 1 | 0 |", "| cow | 0 | 0 | 0 |"]


def test_a_name_is_no_markup_and_no_column():
    row = class_table(measured(2), ["a|b\n<i>*c*", "dog"]).splitlines()[2]
    assert row.startswith(r"| a\|b \<i\>\*c\* | 2 |")


def test_of_many_classes_there_is_no_matrix():
    names = [str(number) for number in range(LARGEST_CONFUSION + 1)]
    assert confusion_table(measured(len(names)), names) is None
