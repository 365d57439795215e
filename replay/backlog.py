"""How far sending is ahead of the workers. Pure."""

from collections import deque
from collections.abc import Mapping


class Backlog:
    """Bytes that were sent and that no worker has committed yet, as coarse as the notes that are taken."""

    def __init__(self) -> None:
        self._notes: deque[tuple[dict[int, int], int]] = deque()
        self._sent_bytes = 0
        self._done_bytes = 0

    def note(self, next_offsets: Mapping[int, int], sent_bytes: int) -> None:
        """So many bytes were sent in all, up to these offsets by partition."""
        self._notes.append((dict(next_offsets), sent_bytes))
        self._sent_bytes = sent_bytes

    def ahead_bytes(self, committed: Mapping[int, int]) -> int:
        """Bytes sent after the newest note that is committed as a whole."""
        while self._notes and all(committed.get(number, 0) >= end for number, end in self._notes[0][0].items()):
            self._done_bytes = self._notes.popleft()[1]
        return self._sent_bytes - self._done_bytes
