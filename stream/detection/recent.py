"""What is remembered of each of many series, without end: those that come no more make room for new ones."""

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values by key, ``size`` at most; of more, those that were asked for least lately are forgotten.

    Two generations: what is not asked for while half of ``size`` others are new falls with the older one. To ask for a
    known one costs one look-up in ``young``.
    """

    def __init__(self, size: int, new: Callable[[], V]) -> None:
        """``new`` makes the value of a key that is not known."""
        self._half = max(size // 2, 1)
        self._new = new
        self.young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self.forgotten_total = 0

    def __len__(self) -> int:
        return len(self.young) + len(self._old)

    def has_room(self, count: int) -> bool:
        """True if to ask for ``count`` keys, whichever they are, makes nothing fall."""
        return len(self.young) + count <= self._half

    def of(self, key: K) -> V:
        """The value of a key."""
        value = self.young.get(key)
        if value is None:
            value = self._old.pop(key, None)
            if value is None:
                value = self._new()
            if len(self.young) >= self._half:
                self.forgotten_total += len(self._old)
                self.young, self._old = {}, self.young
            self.young[key] = value
        return value
