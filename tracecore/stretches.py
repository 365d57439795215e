"""Equal values in a row."""

from typing import Any

import numpy as np


def stretches(values: "np.ndarray[Any, Any]") -> list[tuple[int, int]]:
    """From where to where the same value stands, for all of ``values``, in their order."""
    if not len(values):
        return []
    changes = (np.flatnonzero(values[1:] != values[:-1]) + 1).tolist()
    return list(zip([0, *changes], [*changes, len(values)], strict=True))
