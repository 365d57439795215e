"""Small lines without axes: points for a script to draw."""

from collections.abc import Sequence


def relative(values: Sequence[float | None]) -> list[float | None]:
    """Values as shares of the largest, rounded for the wire; None stays a gap."""
    top = max((value for value in values if value is not None), default=0) or 1
    return [None if value is None else round(value / top, 3) for value in values]
