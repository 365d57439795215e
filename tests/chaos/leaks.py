"""Whether anything grew that should not have: memory, files, sockets, topics, lag. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from tests.chaos.sampling import Sample

#: Of a process's last life, the part that fills caches and is left out.
WARM_UP_SHARE = 0.3
#: The servers are not ours: their caches grow until their own limits. What they hold is printed all the same.
OTHERS = ("broker", "postgres", "load")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may grow, and by how much."""

    memory_mb_per_h: float = 25.0
    #: Files, and sockets, between the end of the warm-up and the end.
    files: int = 6
    #: Median lag of the last quarter over that of the first.
    lag_records: int = 500


def last_life(samples: Sequence[Sample], until_s: float) -> list[Sample]:
    """Samples of the process that ran last, while the load lasted, without its warm-up."""
    loaded = [sample for sample in samples if sample.at_s <= until_s]
    life = [sample for sample in loaded if sample.pid == loaded[-1].pid]
    return life[int(len(life) * WARM_UP_SHARE) :]


def slope_per_h(points: Iterable[tuple[float, float]]) -> float:
    """Least squares' slope of (seconds, value), in units an hour; 0 for fewer than three points."""
    points = list(points)
    if len(points) < 3:
        return 0.0
    mean_x, mean_y = (sum(column) / len(points) for column in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return 3600 * sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def memory_slope(life: Sequence[Sample]) -> float:
    """MB an hour."""
    return slope_per_h((sample.at_s, sample.memory_mb) for sample in life)


def cores(samples: Sequence[Sample], until_s: float) -> float:
    """Processor time by the second while the load lasted, over all lives of a service."""
    loaded = [sample for sample in samples if sample.at_s <= until_s]
    pairs = [(one, other) for one, other in pairwise(loaded) if one.pid == other.pid]
    seconds = sum(other.at_s - one.at_s for one, other in pairs)
    return sum(other.cpu_s - one.cpu_s for one, other in pairs) / seconds if seconds else 0.0


def lag_quarters(lag: Sequence[tuple[float, int]], until_s: float) -> tuple[float, float]:
    """Median lag of the first and of the last quarter of the load."""
    values = [records for at_s, records in lag if at_s <= until_s] or [0]
    quarter = max(1, len(values) // 4)
    return median(values[:quarter]), median(values[-quarter:])


def leak_problems(
    by_name: Mapping[str, Sequence[Sample]],
    lag: Sequence[tuple[float, int]],
    held: Mapping[str, tuple[int, int]],
    until_s: float,
    bounds: Bounds,
) -> list[str]:
    """What grew beyond its bound, in words. ``held``: other things at the start and at the end."""
    found: list[str] = []
    for name, samples in by_name.items():
        life = last_life(samples, until_s)
        if name in OTHERS or len(life) < 3:
            continue
        slope = memory_slope(life)
        if slope > bounds.memory_mb_per_h:
            found.append(f"{name} grows by {slope:.0f} MB an hour (bound {bounds.memory_mb_per_h:.0f})")
        for what, before, after in (
            ("files", life[0].files, life[-1].files),
            ("sockets", life[0].sockets, life[-1].sockets),
        ):
            if after - before > bounds.files:
                found.append(f"{name} held {before} {what} after its warm-up and {after} at the end")
    first, last = lag_quarters(lag, until_s)
    if last - first > bounds.lag_records:
        found.append(f"lag grew from {first:.0f} to {last:.0f} records")
    found += [
        f"{what}: {before} at the start, {after} at the end" for what, (before, after) in held.items() if after > before
    ]
    return found
