"""The augmentations that there are, by name and strength, and from a person's words to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cutaway.settings.near_names import near_names


@dataclass(frozen=True)
class Strength:
    """A number that an augmentation takes.

    Attributes:
        name: In capitals, as the help shows it.
        default: Where none is given; None for the one before it.
        low: The least that it can be.
        high: The most.
        is_whole: Whether it counts something.
    """

    name: str
    default: float | None
    low: float
    high: float
    is_whole: bool = False


@dataclass(frozen=True)
class Augmentation:
    """One augmentation as asked for.

    Attributes:
        name: A key of `AUGMENTATIONS`.
        strengths: A number for each of its strengths.
    """

    name: str
    strengths: tuple[float, ...] = ()

    def __str__(self) -> str:
        numbers = ",".join(f"{number:.15g}" for number in self.strengths)
        return f"{self.name}:{numbers}" if numbers else self.name


_PROBABILITY = Strength("PROBABILITY", 0.5, 0, 1)

AUGMENTATIONS: dict[str, tuple[Strength, ...]] = {
    # Geometry. Zero PIXELS stand for an eighth of the side.
    "resized-crop": (Strength("SMALLEST", 0.08, 0.01, 1), Strength("LARGEST", 1.0, 0.01, 1)),
    "crop": (Strength("PIXELS", 0, 0, 1024, is_whole=True),),
    "flip": (_PROBABILITY,),
    "vertical-flip": (_PROBABILITY,),
    "rotate": (Strength("DEGREES", 15, 0, 180),),
    "affine": (
        Strength("DEGREES", 10, 0, 180),
        Strength("TRANSLATE", 0.1, 0, 1),
        Strength("SCALE", 0.1, 0, 0.9),
        Strength("SHEAR", 5, 0, 80),
    ),
    # Colour.
    "colour-jitter": (
        Strength("BRIGHTNESS", 0.2, 0, 1),
        Strength("CONTRAST", None, 0, 1),
        Strength("SATURATION", None, 0, 1),
        Strength("HUE", 0, 0, 0.5),
    ),
    "grayscale": (Strength("PROBABILITY", 0.1, 0, 1),),
    "autocontrast": (_PROBABILITY,),
    "equalize": (_PROBABILITY,),
    "invert": (_PROBABILITY,),
    "posterize": (Strength("BITS", 4, 1, 8, is_whole=True), _PROBABILITY),
    "solarize": (Strength("THRESHOLD", 128, 0, 255), _PROBABILITY),
    "sharpness": (Strength("FACTOR", 2, 0, 10), _PROBABILITY),
    # Policies that draw an operation for each picture.
    "randaugment": (Strength("OPERATIONS", 2, 1, 14, is_whole=True), Strength("MAGNITUDE", 9, 0, 30, is_whole=True)),
    "trivial": (),
    # What covers pixels.
    "erase": (Strength("PROBABILITY", 0.25, 0, 1), Strength("LARGEST", 0.33, 0.02, 1)),
    "salt-and-pepper": (Strength("SHARE", 0.05, 0, 1),),
}

PRESETS: dict[str, tuple[str, ...]] = {
    "none": (),
    "standard": ("crop", "flip"),
    "photo": ("resized-crop:0.25", "flip", "colour-jitter:0.2"),
    "strong": ("crop", "flip", "trivial", "erase:0.25"),
}

_ALIASES = {
    "color-jitter": "colour-jitter",
    "greyscale": "grayscale",
    "horizontal-flip": "flip",
    "random-erasing": "erase",
    "trivialaugment": "trivial",
}


def parse_augmentations(words: Sequence[str]) -> tuple[Augmentation, ...]:
    """Augmentations from words such as `flip` and `erase:0.25`, or `photo`, which stands for several.

    Raises:
        ValueError: A name is unknown or there twice, a strength is out of range, `resized-crop` is not the first, or
            `none` is not the only word.
    """
    plain = [word.strip().lower() for word in words]
    if "none" in plain and len(plain) > 1:
        raise ValueError("must be none by itself, or the others without none")
    found = tuple(_parsed(part) for word in words for part in PRESETS.get(word.strip().lower(), (word,)))
    names = [augmentation.name for augmentation in found]
    for name in names:
        if names.count(name) > 1:
            holding = [preset for preset in plain if name in _names_in(preset)]
            too = f" ({' and '.join(holding)} {'has' if len(holding) == 1 else 'have'} it too)" if holding else ""
            raise ValueError(f"must be {name} once, and not {names.count(name)} times{too}")
    if "resized-crop" in names[1:]:
        # It chooses the part of a photo that is decoded, so nothing can have happened to the pixels before.
        raise ValueError("must be resized-crop first, which chooses the part of the photo, and the others after it")
    return found


def _names_in(preset: str) -> list[str]:
    return [part.partition(":")[0] for part in PRESETS.get(preset, ())]


def _parsed(word: str) -> Augmentation:
    given, _, numbers = word.strip().lower().replace("_", "-").partition(":")
    name = _ALIASES.get(given, given)
    if name not in AUGMENTATIONS:
        known = [*AUGMENTATIONS, *PRESETS, *_ALIASES]
        near = near_names(name, known)
        instead = f"'{near[0]}'" if near else f"one or more of {', '.join([*AUGMENTATIONS, *PRESETS])}"
        raise ValueError(f"must be {instead}, and not '{word}'")
    kinds = AUGMENTATIONS[name]
    parts = numbers.split(",") if numbers else []
    if len(parts) > len(kinds):
        raise ValueError(f"must be {_form(name)}, and not '{word}'")
    strengths: list[float] = []
    for position, kind in enumerate(kinds):
        if position < len(parts):
            strengths.append(_number(parts[position], kind, name, word))
        else:
            strengths.append(strengths[-1] if kind.default is None else kind.default)
    if name == "resized-crop" and strengths[0] > strengths[1]:
        raise ValueError(f"must be {_form(name)} with a LARGEST of at least SMALLEST, and not '{word}'")
    return Augmentation(name, tuple(strengths))


def _number(text: str, kind: Strength, name: str, word: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not kind.low <= value <= kind.high or (kind.is_whole and value != int(value)):
        what = "a whole number" if kind.is_whole else "a number"
        between = f"{what} from {kind.low:g} to {kind.high:g}"
        raise ValueError(f"must be {_form(name)} with {between} as {kind.name}, and not '{word}'")
    return value


def _form(name: str) -> str:
    numbers = ",".join(kind.name for kind in AUGMENTATIONS[name])
    return f"{name}:{numbers}" if numbers else f"{name} without a number"
