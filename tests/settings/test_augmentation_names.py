"""From a person's words to augmentations, and what is said about words that are none."""

import pytest

from cutaway.errors import SettingsError
from cutaway.settings import read_yaml, to_yaml, validated
from cutaway.settings.augmentation import AugmentationSettings
from cutaway.settings.augmentation_names import AUGMENTATIONS, PRESETS, Augmentation, parse_augmentations


def test_strengths_are_read_and_missing_ones_filled_in():
    assert parse_augmentations(["crop:3", "erase:.5", "trivial"]) == (
        Augmentation("crop", (3.0,)),
        Augmentation("erase", (0.5, 0.33)),
        Augmentation("trivial", ()),
    )


def test_contrast_and_saturation_are_as_strong_as_brightness_unless_told():
    assert parse_augmentations(["color-jitter:0.4"])[0].strengths == (0.4, 0.4, 0.4, 0)
    assert parse_augmentations(["colour-jitter:0.4,0.1,0,0.5"])[0].strengths == (0.4, 0.1, 0, 0.5)


def test_settings_keep_every_strength_so_that_a_later_default_changes_no_run():
    assert validated({"augment": ["standard", "Erase"]}).augment == ("crop:0", "flip:0.5", "erase:0.25,0.33")
    assert validated({"augment": ["none"]}).augment == ()


@pytest.mark.parametrize("word", [*AUGMENTATIONS, *PRESETS])
def test_every_name_comes_back_from_yaml_as_it_went(tmp_path, word):
    settings = validated({"augment": [word]})
    (tmp_path / "config.yaml").write_text(to_yaml(settings))
    assert validated(read_yaml(tmp_path / "config.yaml")).augment == settings.augment


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["flipp"], "It should be 'flip', and not 'flipp'."),
        (["colour_jiter:0.2"], "'colour-jitter'"),
        (["#"], "resized-crop, crop, flip"),
        (["crop:many"], "It should be crop:PIXELS with a whole number from 0 to 1024 as PIXELS, and not 'crop:many'."),
        (["crop:-4"], "and not 'crop:-4'."),
        (["crop:2.5"], "whole number"),
        (["flip:1.5"], "flip:PROBABILITY with a number from 0 to 1 as PROBABILITY, and not 'flip:1.5'."),
        (["flip:nan"], "a number from 0 to 1"),
        (["trivial:3"], "It should be trivial without a number, and not 'trivial:3'."),
        (["flip:0.1,0.2"], "It should be flip:PROBABILITY, and not 'flip:0.1,0.2'."),
        (["flip", "resized-crop"], "It should be resized-crop first, which"),
        (["none", "flip"], "It should be none by itself, or the others without none."),
        (["None", "none"], "none by itself"),
        (["flip", "Flip:0.2"], "It should be flip once, and not 2 times."),
        (
            ["horizontal-flip", "standard", "photo"],
            "It should be flip once, and not 3 times (standard and photo have it too).",
        ),
        (["resized-crop:0.9,0.5"], "LARGEST of at least SMALLEST"),
    ],
)
def test_what_is_no_augmentation_is_told_in_words(words, said):
    with pytest.raises(SettingsError) as error:
        validated({"augment": words})
    assert said in str(error.value)


def test_every_setting_of_mixing_and_views_has_its_range():
    for wrong in ({"mixup": -1}, {"cutmix": float("nan")}, {"tta": "six-crop"}):
        with pytest.raises(SettingsError):
            validated(wrong)


def test_the_help_names_all_of_them():
    told = (
        AugmentationSettings.model_fields["augment"].description.replace(":", " ").replace(",", " ").replace(";", " ")
    )
    assert {*AUGMENTATIONS, *PRESETS} <= {word.strip(".") for word in told.split()}
