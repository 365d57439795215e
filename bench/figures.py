"""What a bench found, each figure beside its bound: printed as it is found, and kept for the table of all benches."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

#: Names the file to which figures are added, a JSON object a line; ``python -m bench table`` sets it.
KEPT_IN: Final = "BENCH_FIGURES"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. ``bare`` is what the least that could do the work took, in the same run and unit."""

    what: str
    ours: float
    unit: str
    bound: float
    #: The bound is what must be reached, and not what must not be passed.
    at_least: bool = False
    bare: float | None = None

    @property
    def holds(self) -> bool:
        """Whether it keeps its bound."""
        return self.ours >= self.bound if self.at_least else self.ours <= self.bound

    def __str__(self) -> str:
        word, side = "holds" if self.holds else "BROKEN", ">=" if self.at_least else "<="
        beside = f"; bare {number(self.bare)}, {self.ours / self.bare:.2f} times" if self.bare else ""
        return f"{word:6} {self.what:44} {number(self.ours):>9} {self.unit} (bound {side} {number(self.bound)}{beside})"


def tell(figures: Iterable[Figure]) -> bool:
    """Print figures, and keep them where a table is made; True if all hold."""
    found = list(figures)
    for figure in found:
        print(figure, flush=True)
    if kept_in := os.environ.get(KEPT_IN):
        with Path(kept_in).open("a") as file:
            file.writelines(json.dumps(asdict(figure)) + "\n" for figure in found)
    return all(figure.holds for figure in found)


def number(value: float) -> str:
    """As many digits as mean something: 0.47, 23.1, 105, 2,460."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
