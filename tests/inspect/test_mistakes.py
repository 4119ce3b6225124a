from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from cutaway.datasets import Split
from cutaway.errors import NetworkError
from cutaway.evaluation import Evaluation, evaluate
from cutaway.inspect.canvas import png, shortened
from cutaway.inspect.class_activation import grad_cam
from cutaway.inspect.classwise import class_scores
from cutaway.inspect.mistakes import confident_mistakes, confusion_examples, seen_picture
from cutaway.inspect.sheets import Tile, class_text, draw_confusions, draw_mistakes, draw_tiles
from cutaway.preprocessing import Preprocessing

SPEC = Preprocessing(size=(8, 8), mean=(0.0,) * 3, std=(1.0,) * 3)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )


def pictures(count: int = 40, side: int = 8) -> Split:
    noise = np.random.default_rng(0)
    images = noise.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return Split("test", np.arange(count) % 3, photos=tuple(images))


def test_examples_of_confusions_are_those_that_the_network_is_surest_of() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 2])
    logits = torch.tensor([[0, 1.0, 0], [0, 3, 0], [0, 2, 0], [4, 0, 0], [0, 0, 5], [0, 0, 1]])
    answers = Evaluation(logits, labels)
    first, second = confusion_examples(answers, class_scores(answers, "abc"), pictures=2)
    assert (first.confusion.truth, first.confusion.prediction, first.confusion.times) == ("a", "b", 3)
    assert first.indices == (1, 2)
    assert first.probabilities == pytest.approx(logits[[1, 2]].softmax(1)[:, 1].tolist())
    assert (second.confusion.truth, second.indices) == ("b", (4,))


def test_mistakes_come_with_the_maps_of_both_classes() -> None:
    model, split = network(), pictures()
    answers = evaluate(model, split, SPEC)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = confident_mistakes(model, split, SPEC, answers, limit=20)
    wrong = (answers.predictions != answers.labels).nonzero()[:, 0].tolist()
    assert {mistake.index for mistake in found} == set(
        sorted(wrong, key=lambda index: -float(answers.probabilities[index].max()))[:20]
    )
    sureness = [mistake.probability for mistake in found]
    assert sureness == sorted(sureness, reverse=True)
    for mistake in found:
        assert (mistake.truth, mistake.prediction) == (
            answers.labels[mistake.index],
            answers.predictions[mistake.index],
        )
        assert mistake.truth_probability == pytest.approx(float(answers.probabilities[mistake.index, mistake.truth]))
        inputs = torch.from_numpy(SPEC.normalise(split.image(mistake.index)[None]))
        for label, given in ((mistake.truth, mistake.truth_map), (mistake.prediction, mistake.prediction_map)):
            assert np.allclose(given, grad_cam(model, inputs, class_index=label).maps[0].numpy(), atol=1e-6)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_network_without_maps_has_mistakes_without_maps() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    split = pictures()
    answers = evaluate(model, split, SPEC)
    found = confident_mistakes(model, split, SPEC, answers, limit=2)
    assert [mistake.truth_map for mistake in found] == [None, None]
    png(draw_mistakes(found, "abc", title="mistakes"))
    with pytest.raises(NetworkError):
        confident_mistakes(model, split, SPEC, answers, target_layer="conv9")


def test_pictures_are_shown_in_their_own_detail() -> None:
    large = pictures(3, 60)
    assert seen_picture(large, SPEC, 0).shape == (60, 60, 3)
    small = Split("test", np.zeros(1, int), np.zeros((1, 8, 8, 3), np.uint8), prepared=True)
    assert seen_picture(small, SPEC, 0).shape == (8, 8, 3)


def test_sheets_say_what_they_show() -> None:
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ResourceWarning)  # what earlier tests left to the garbage collector
    model, split = network(), pictures()
    answers = evaluate(model, split, SPEC)
    classes = ["$x^$", "кот", "\U0001f980\u9f98 " + "long " * 9]
    found = confident_mistakes(model, split, SPEC, answers, limit=4)
    figure = draw_mistakes(found, classes, title="mistakes of $_$")
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 4
    said = shown[0].get_title(loc="left")
    wrong = found[0].prediction
    assert said.startswith(f"{found[0].probability:.1%} taken for {class_text(classes, wrong)}\n")
    assert class_text(classes, 2) in ("class 2", shortened(classes[2], 24))
    # Three pictures of 168 pixels with gaps of 6 between them.
    assert shown[0].images[0].get_array().shape == (168, 3 * 168 + 2 * 6, 3)
    png(figure)
    examples = confusion_examples(answers, class_scores(answers, classes), confusions=2, pictures=3)
    rows = [[split.image(index) for index in example.indices] for example in examples]
    figure = draw_confusions(examples, rows, classes, title="confusions")
    assert f"{examples[0].confusion.times} of 1" in figure.axes[0].texts[0].get_text()
    png(figure)


def test_a_map_without_evidence_says_so() -> None:
    model, split = network(), pictures()
    with torch.no_grad():
        model[4].weight.zero_()
    found = confident_mistakes(model, split, SPEC, evaluate(model, split, SPEC), limit=1)
    figure = draw_mistakes(found, "abc", title="mistakes")
    assert figure.axes[0].get_title(loc="left").count("nothing in its map speaks for") == 2


def test_pictures_of_several_sizes_and_grey_ones_stand_on_one_sheet() -> None:
    grey, wide = np.zeros((8, 8, 1), np.uint8), np.zeros((8, 20, 3), np.uint8)
    png(draw_tiles([Tile((grey, wide), ("one", "two")), Tile((wide,), ())] * 4, title="tiles", columns=3))
    png(draw_tiles([], title="none"))


def test_a_sheet_of_one_picture_has_room_for_its_title() -> None:
    model, split = network(), pictures()
    answers = evaluate(model, split, SPEC)
    examples = confusion_examples(answers, class_scores(answers, "abc"), confusions=1, pictures=1)
    title = "the largest confusions, with the pictures that the network is surest of"
    narrow = draw_confusions(examples, [[split.image(0)]], "abc", title=title)
    for figure in (narrow, draw_tiles([Tile((split.image(0),), ("one",))], title=f"{title}\n{title}")):
        figure.canvas.draw()
        assert figure._suptitle.get_window_extent().x1 <= figure.bbox.width
