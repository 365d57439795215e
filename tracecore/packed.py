"""Values that are made when somebody looks at them.

Of most traces nobody looks at the spans between their analysis and the topic, where the record goes that compiled code
wrote, and to make a span costs as much as to analyse it.
"""

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")


class Packed(Generic[S, T]):
    """No tuple, but equal to the one that it stands for and of the same use: to types it passes for one."""

    __slots__ = ("_made", "source", "trace")

    def __init__(self, source: S, trace: int) -> None:
        """What ``source`` holds of trace number ``trace`` of those that were analysed together."""
        self.source = source
        self.trace = trace
        self._made: tuple[T, ...] | None = None

    def _make(self) -> tuple[T, ...]:
        """The values."""
        raise NotImplementedError

    def made(self) -> tuple[T, ...]:
        """The values, made once."""
        if self._made is None:
            self._made = self._make()
        return self._made

    def __getitem__(self, index: Any) -> Any:
        return self.made()[index]

    def __iter__(self) -> Iterator[T]:
        return iter(self.made())

    def __len__(self) -> int:
        return len(self.made())

    def __eq__(self, other: object) -> bool:
        return self.made() == (other.made() if isinstance(other, Packed) else other)

    def __hash__(self) -> int:
        return hash(self.made())

    def __repr__(self) -> str:
        return repr(self.made())


def made(value: Any) -> Any:
    """For msgspec's encoder: the tuple that ``value`` stands for."""
    if isinstance(value, Packed):
        return value.made()
    raise NotImplementedError(f"cannot be encoded: {type(value)}")
