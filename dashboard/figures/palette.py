"""Colours, for light and dark. Never the only carrier of a meaning: a glyph, a word or a number stands beside them.

Grades run from blue-green over amber to vermilion, which the common colour-blindnesses keep apart.
Source: M. Okabe and K. Ito, Color Universal Design; P. Tol, Colour Schemes (categorical hues).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal
from zlib import crc32

Mode = Literal["light", "dark"]
Grade = Literal["good", "warn", "bad", "unknown"]

#: Told apart without colour.
GLYPHS: Final[dict[Grade, str]] = {"good": "●", "warn": "▲", "bad": "■", "unknown": "○"}
_WORST_FIRST: Final[tuple[Grade, ...]] = ("bad", "warn", "good")


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one mode, as CSS hex."""

    ink: str
    muted: str
    line: str
    surface: str
    background: str
    accent: str
    good: str
    warn: str
    bad: str
    unknown: str
    before: str
    services: tuple[str, ...]
    heat: tuple[str, ...]

    def of_grade(self, grade: Grade) -> str:
        """The colour of a grade."""
        return {"good": self.good, "warn": self.warn, "bad": self.bad, "unknown": self.unknown}[grade]


LIGHT: Final = Palette(
    ink="#1d2430",
    muted="#667080",
    line="#e3e6ea",
    surface="#ffffff",
    background="#f7f8f9",
    accent="#2a62a8",
    good="#0f7a74",
    warn="#b87400",
    bad="#c7401a",
    unknown="#98a1ad",
    before="#a9b3c0",
    services=(
        "#4a7ab0",
        "#d08a2e",
        "#3f9e97",
        "#8a6ab5",
        "#6a9c4f",
        "#c4698f",
        "#5b9fd0",
        "#a07a52",
        "#5f6cc0",
        "#97912f",
        "#4f8f6b",
        "#8893a1",
    ),
    heat=("#f3f6f9", "#c9dcee", "#8fb8dd", "#5590c6", "#2a62a8", "#143a6b"),
)
DARK: Final = Palette(
    ink="#e4e8ed",
    muted="#93a0af",
    line="#2a323c",
    surface="#181d24",
    background="#11151a",
    accent="#7db4ee",
    good="#41b8ae",
    warn="#e3a53c",
    bad="#f2794f",
    unknown="#6d7885",
    before="#566373",
    services=(
        "#6c9fd8",
        "#dba04c",
        "#58b8b0",
        "#a98bd3",
        "#88b96c",
        "#db88ab",
        "#7fbbe6",
        "#bd9871",
        "#8690dd",
        "#b5af50",
        "#6cae89",
        "#9aa6b4",
    ),
    heat=("#1c3148", "#21466f", "#2a659f", "#4189cc", "#7db4ee", "#dcecfc"),
)


def palette_of(mode: str) -> Palette:
    """The palette of a mode; anything but "dark" is light."""
    return DARK if mode == "dark" else LIGHT


def service_colours(services: Iterable[str], palette: Palette) -> dict[str, str]:
    """A colour a service: by its name, so that it keeps it from page to page; neighbours' clashes move on one."""
    slots = len(palette.services)
    taken: set[int] = set()
    colours = {}
    for service in sorted(set(services)):
        wanted = crc32(service.encode("utf-8", "surrogatepass")) % slots
        if len(taken) == slots:
            taken.clear()
        slot = next(slot % slots for slot in range(wanted, wanted + slots) if slot % slots not in taken)
        taken.add(slot)
        colours[service] = palette.services[slot]
    return colours


def grade_of_health(score: float | None) -> Grade:
    """Health 0 to 100 as a grade."""
    if score is None:
        return "unknown"
    return "good" if score >= 85 else "warn" if score >= 60 else "bad"


def worst_grade(grades: Iterable[Grade]) -> Grade:
    """The worst of some grades; those that are unknown say nothing."""
    return min((grade for grade in grades if grade != "unknown"), key=_WORST_FIRST.index, default="unknown")


def grade_of_error_rate(ratio: float | None) -> Grade:
    """A share of failed calls as a grade: from 1 % it is worth a look, from 5 % it hurts."""
    if ratio is None:
        return "unknown"
    return "good" if ratio < 0.01 else "warn" if ratio < 0.05 else "bad"
