"""Options that name nothing, too much, or what is out of range: a sentence, and nothing is begun."""

from pathlib import Path

import pytest

from cutaway.cli import main

HUGE = "99999999999999999999999"
IMPORT = "checkpoints import weights.pth --network lenet5 --classes a,b"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("inspect attribution run --images . --method", "No method is named"),
        (f"inspect attribution run --images . --seed {HUGE}", "--seed must lie between 0 and"),
        (f"inspect faithfulness run --seed {HUGE}", "--seed must lie between 0 and"),
        ("inspect faithfulness run --seed -1", "--seed must lie between 0 and"),
        ("inspect channels run --top 100000", "--top must be at most 100"),
        ("inspect histograms run --of", "Nothing is named to look at"),
        ("inspect report run --sections", "No section is named"),
        (f"{IMPORT} --preprocessing imagenet --seed {HUGE}", "--seed must lie between 0 and"),
        (f"{IMPORT} --preprocessing imagenet --image-size -4", "--image-size must lie between 1 and 4096, not -4"),
        (f"{IMPORT} --image-size 99999 --mean 0.5 --std 0.5", "--image-size must lie between 1 and 4096, not 99999"),
        ("checkpoints prune . --keep-last 1", "holds no bundles"),
        ("predict model.onnx . --json --csv", "--json and --csv both say how to print"),
    ],
)
def test_it_is_told(convolutional_run, words, said, capsys):
    before = set(Path().rglob("*"))
    assert main(words.split()) == 1
    assert said in " ".join(capsys.readouterr().err.split())
    assert set(Path().rglob("*")) == before


def test_layers_and_channels_that_are_not_named_are_the_usual_ones(convolutional_run, capsys):
    from PIL import Image

    Image.new("L", (28, 28), 99).save("a.png")
    assert main(["inspect", "features", "run", "--images", "a.png", "--layers", "--out", "some"]) == 0
    assert main(["inspect", "features", "run", "--images", "a.png", "--out", "usual"]) == 0
    assert [file.name for file in sorted(Path("some").iterdir())] == [
        file.name for file in sorted(Path("usual").iterdir())
    ]
