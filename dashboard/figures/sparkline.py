"""Small lines without axes: points for a script to draw, and SVG pictures for tables."""

from collections.abc import Sequence
from urllib.parse import quote


def relative(values: Sequence[float | None]) -> list[float | None]:
    """Values as shares of the largest, rounded for the wire; None stays a gap."""
    top = max((value for value in values if value is not None), default=0) or 1
    return [None if value is None else round(value / top, 3) for value in values]


def bars_image(values: Sequence[float], colour: str, *, width: int = 120, height: int = 24) -> str:
    """A row of bars as the address of an SVG picture."""
    top = max(values, default=0) or 1
    step = width / max(len(values), 1)
    bars = "".join(
        f'<rect x="{index * step:.1f}" y="{height - max(1.5, value / top * height):.1f}"'
        f' width="{max(step - 1, 0.6):.1f}" height="{max(1.5, value / top * height):.1f}" fill="{colour}"/>'
        for index, value in enumerate(values)
        if value
    )
    base = f'<rect y="{height - 0.5}" width="{width}" height="0.5" fill="{colour}" opacity="0.5"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{base}{bars}</svg>'
    return f"data:image/svg+xml,{quote(svg)}"
