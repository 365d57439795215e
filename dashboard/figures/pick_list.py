"""A table whose rows a person chooses, as drawing data: columns with their widths, cells with their tones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dashboard.figures.palette import Palette

_COLOURS = ("ink", "muted", "line", "surface", "accent", "good", "warn", "bad")


@dataclass(frozen=True, slots=True)
class Column:
    """A heading; ``width`` as a CSS grid has it. The ``main`` one stands first where there is little room."""

    name: str
    width: str = "minmax(0, 1fr)"
    numeric: bool = False
    main: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, small words under it, a tone; ``sort`` if not by the text. Or bars, as shares of the tallest."""

    text: str
    note: str = ""
    tone: str = ""
    sort: float | None = None
    bars: tuple[float, ...] = ()


def pick_drawing(
    columns: Sequence[Column], rows: Iterable[tuple[str, Sequence[Cell]]], palette: Palette, selected: str = ""
) -> dict[str, Any]:
    """What the list's script draws; each row has an id and a cell a column."""
    return {
        "palette": {name: getattr(palette, name) for name in _COLOURS},
        "columns": [
            {"name": each.name, "width": each.width, "numeric": each.numeric, "main": each.main} for each in columns
        ],
        "rows": [
            {"id": row_id, "selected": row_id == selected, "cells": [_drawn(cell) for cell in cells]}
            for row_id, cells in rows
        ],
    }


def bars_of(counts: Sequence[int]) -> tuple[float, ...]:
    """Counts as shares of the largest."""
    top = max(counts, default=0) or 1
    return tuple(round(count / top, 3) for count in counts)


def _drawn(cell: Cell) -> dict[str, Any]:
    drawn: dict[str, Any] = {"text": cell.text[:300]}
    if cell.note:
        drawn["note"] = cell.note[:300]
    if cell.tone:
        drawn["tone"] = cell.tone
    if cell.sort is not None:
        drawn["sort"] = cell.sort
    if cell.bars:
        drawn["bars"] = cell.bars
    return drawn
