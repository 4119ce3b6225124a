"""File names made of what somebody else chose."""

import pytest

from cutaway.cli.file_names import layer_words, shortened, stem_of


@pytest.mark.parametrize("letter", ["p", "é", "犬", "\N{PILE OF POO}", "\udcff"])
def test_long_names_become_short_and_stay_apart(letter):
    names = [letter * 250 + end for end in ("", "a", "b")]
    short = [shortened(name) for name in names]
    assert len(set(short)) == 3
    assert all(len(name.encode()) <= 180 for name in short)
    assert short == [shortened(name) for name in names]


def test_a_name_that_fits_stays():
    assert stem_of("bild 2.tar.png") == "bild 2.tar"
    assert stem_of("p" * 180 + ".png") == "p" * 180
    assert layer_words("layer1.0:relu#0") == "layer1.0-relu#0"


def test_a_layer_of_any_name_is_no_path():
    assert layer_words("../a/b\\c\0d\n") == "..-a-b-c-d-"
    assert len(layer_words("block." * 100)) <= 180


@pytest.mark.parametrize("name", ["...png", "..png", ".png"])
def test_a_name_of_dots_is_no_folder(name):
    assert stem_of(name) == name
