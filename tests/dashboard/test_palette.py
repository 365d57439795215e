"""Grades are told apart by people with the common colour-blindnesses, and readable on their background.

Source of the simulation: G. Machado, M. Oliveira, L. Fernandes, "A physiologically-based model for simulation of color
vision deficiency" (2009), severity 1.0; of the contrast: WCAG 2.1.
"""

from itertools import combinations
from math import sqrt

import pytest

from dashboard.figures.palette import DARK, GLYPHS, LIGHT, Palette, worst_grade

Colour = tuple[float, float, float]
SIGHTS: dict[str, tuple[Colour, Colour, Colour]] = {
    "usual": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}


def linear(colour: str) -> Colour:
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return tuple(v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (red, green, blue))  # type: ignore[return-value]


def seen(colour: str, sight: str) -> Colour:
    rgb = linear(colour)
    return tuple(sum(a * b for a, b in zip(row, rgb, strict=True)) for row in SIGHTS[sight])  # type: ignore[return-value]


def oklab(rgb: Colour) -> Colour:
    red, green, blue = (max(value, 0.0) for value in rgb)
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    middle = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    return (
        0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short,
        1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short,
        0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short,
    )


def contrast(one: str, other: str) -> float:
    low, high = sorted(
        0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in (linear(one), linear(other))
    )
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_grades_look_different_to_everyone(palette: Palette, sight: str) -> None:
    for one, other in combinations((palette.good, palette.warn, palette.bad), 2):
        first, second = (oklab(seen(colour, sight)) for colour in (one, other))
        distance = sqrt(sum((a - b) ** 2 for a, b in zip(first, second, strict=True)))
        assert distance > 0.05, f"{one} and {other} look alike: {distance:.3f}"


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_texts_are_readable(palette: Palette) -> None:
    for background in (palette.surface, palette.background):
        assert contrast(palette.ink, background) >= 7
        for text in (palette.muted, palette.bad, palette.good, palette.accent):
            assert contrast(text, background) >= 4.5, text
        # An amber that is darker would be taken for vermilion; it never stands without its sign.
        assert contrast(palette.warn, background) >= 3


def test_no_grade_has_anothers_sign() -> None:
    assert len(set(GLYPHS.values())) == len(GLYPHS)


def test_the_worst_known_grade_counts() -> None:
    assert worst_grade(("unknown", "good", "warn")) == "warn"
    assert worst_grade(("unknown",)) == "unknown"
