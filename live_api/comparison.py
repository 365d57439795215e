"""Two traces side by side: the same operation, called from the same place, before and after."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from live_api.models import ComparedOperation
from live_api.stored import StoredSpan

#: Changes that are listed; the rest is noise.
_MAX_OPERATIONS = 1000

Path = tuple[str, ...]


@dataclass(slots=True)
class _Sum:
    calls: int = 0
    duration_ns: int = 0
    self_time_ns: int = 0
    errors: int = 0


@dataclass(slots=True)
class _Pair:
    sides: tuple[_Sum, _Sum] = field(default_factory=lambda: (_Sum(), _Sum()))


def compared(before: Iterable[StoredSpan], after: Iterable[StoredSpan]) -> list[ComparedOperation]:
    """Operations of both traces by their path from the root, largest change of self time first.

    Calls of one path are summed. Spans stand in the tree's order, parents first. O(n log n).
    """
    pairs: dict[Path, _Pair] = {}
    for side, spans in enumerate((before, after)):
        paths: dict[bytes, Path] = {}
        for span in spans:
            path = (*paths.get(span.tree_parent_id or b"", ()), f"{span.service}: {span.operation}")
            paths[span.span_id] = path
            total = pairs.setdefault(path, _Pair()).sides[side]
            total.calls += 1
            total.duration_ns += span.duration_ns
            total.self_time_ns += span.self_time_ns
            total.errors += span.is_error
    found = [_operation(path, *pair.sides) for path, pair in pairs.items()]
    found.sort(key=lambda operation: (-abs(operation.self_time_change_ns), operation.path))
    return found[:_MAX_OPERATIONS]


def _operation(path: Path, before: _Sum, after: _Sum) -> ComparedOperation:
    return ComparedOperation(
        path=list(path),
        calls=(before.calls, after.calls),
        duration_ns=(_of(before, before.duration_ns), _of(after, after.duration_ns)),
        self_time_ns=(_of(before, before.self_time_ns), _of(after, after.self_time_ns)),
        errors=(before.errors, after.errors),
        self_time_change_ns=after.self_time_ns - before.self_time_ns,
    )


def _of(total: _Sum, value: int) -> int | None:
    return value if total.calls else None
