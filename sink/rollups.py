"""Windows of ten seconds become minutes and hours, exactly, whatever is said twice.

A part (window, series, source partition) replaces what was said of it before, if it counts no fewer spans; the minute
and the hour that hold it change by the difference.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tracecore.buckets import Buckets
from tracecore.window import OperationWindow, Window

_SECOND_NS = 1_000_000_000
#: Length of a row of each roll-up, the finer first: each adds up from the one before.
ROLLUPS = {"minutes": 60 * _SECOND_NS, "hours": 3600 * _SECOND_NS}

#: Service, operation, kind; or caller, callee, operation.
SeriesKey = tuple[str | int, ...]


@dataclass(slots=True)
class WindowSums:
    """Sums over windows of one series. ``other``: self times of an operation, gaps of a hop."""

    spans: int = 0
    count_milli: int = 0
    error_milli: int = 0
    duration: Buckets = field(default_factory=dict)
    other: Buckets = field(default_factory=dict)
    slowest: str = ""
    failed: str = ""

    def add(self, window: Window, sign: int = 1) -> None:
        """Count a window, or take it back. Sample traces stay: they are samples."""
        self.spans += sign * window.spans
        self.count_milli += sign * window.count_milli
        self.error_milli += sign * window.error_milli
        _add(self.duration, window.duration, sign)
        _add(self.other, other_buckets(window), sign)
        self.slowest = max(self.slowest, window.slowest)
        self.failed = max(self.failed, window.failed)

    def merge(self, others: "WindowSums") -> None:
        """Add sums, whose counts may be negative."""
        self.spans += others.spans
        self.count_milli += others.count_milli
        self.error_milli += others.error_milli
        _add(self.duration, others.duration, 1)
        _add(self.other, others.other, 1)
        self.slowest = max(self.slowest, others.slowest)
        self.failed = max(self.failed, others.failed)


def part_key(window: Window) -> tuple[int, SeriesKey, int]:
    """What names a part: two records with one key say the same thing, the later perhaps better."""
    return window.start_ns, window.key, window.partition


def newest_parts(windows: Iterable[Window]) -> dict[tuple[int, SeriesKey, int], Window]:
    """Of windows in the order they came, the one that counts for each part."""
    parts: dict[tuple[int, SeriesKey, int], Window] = {}
    for window in windows:
        key = part_key(window)
        old = parts.get(key)
        if old is None or supersedes(window, old):
            parts[key] = window
    return parts


def supersedes(new: Window, old: Window) -> bool:
    """True if ``new`` is to replace ``old``: a part that was read again in part never does."""
    return new.spans >= old.spans


def differences(
    new: Mapping[tuple[int, SeriesKey, int], Window], old: Mapping[tuple[int, SeriesKey, int], Window]
) -> dict[str, dict[tuple[int, SeriesKey], WindowSums]]:
    """By how much the rows of each roll-up change when the parts ``new`` replace those in ``old``."""
    changes: dict[str, dict[tuple[int, SeriesKey], WindowSums]] = {}
    finer: dict[tuple[int, SeriesKey], WindowSums] | None = None
    for table, length_ns in ROLLUPS.items():
        sums: dict[tuple[int, SeriesKey], WindowSums] = {}
        if finer is None:
            for key, window in new.items():
                row = sums.setdefault((key[0] - key[0] % length_ns, key[1]), WindowSums())
                row.add(window)
                if key in old:
                    row.add(old[key], -1)
        else:
            for (start_ns, series), part in finer.items():
                sums.setdefault((start_ns - start_ns % length_ns, series), WindowSums()).merge(part)
        changes[table] = finer = sums
    return changes


def other_buckets(window: Window) -> Buckets:
    """The second histogram of a window."""
    return window.self_time if isinstance(window, OperationWindow) else window.gap


def _add(total: Buckets, part: Mapping[int, int], sign: int) -> None:
    for bucket, count in part.items():
        summed = total.get(bucket, 0) + sign * count
        if summed:
            total[bucket] = summed
        else:
            total.pop(bucket, None)
