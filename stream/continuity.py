"""Whether the next record of a partition is the next one.

Around a rebalance Faust lets records fall without a word, and goes on after them (measured: 35 records at once). To
commit what comes after would lose them. So every agent that must not lose anything keeps a cursor, and reads again
from where it stood.
"""

from typing import Literal

#: Records that were handed out this long ago and did not come are lost on the way. Longer than a full
#: buffer takes on a machine that has too much to do: to read again what is only late makes it later still.
LOST_AFTER_S = 20.0
#: The same for what was handed out first after a rebalance: that is where records fall, and no buffer is full yet.
#: Waited for once only, so that a machine with too much to do is not kept from its work.
FIRST_LOST_AFTER_S = 3.0

#: What to do with a record: read it; pass it over; or seek back to ``Cursor.next_offset``, for some are missing.
Verdict = Literal["read", "pass", "missing"]


class Cursor:
    """Where reading stands in a partition."""

    __slots__ = ("_gap_at", "_lost_after_s", "_read_at", "next_offset", "started_at")

    def __init__(self, start: int, now_s: float) -> None:
        #: Where reading began; what stands before, others have read.
        self.started_at = start
        self.next_offset = start
        # The offset after a gap, once it was asked for again.
        self._gap_at = -1
        self._read_at = now_s
        self._lost_after_s = FIRST_LOST_AFTER_S

    @property
    def has_read(self) -> bool:
        """False if nothing was read since reading began."""
        return self.next_offset > self.started_at

    def judge(self, offset: int, now_s: float) -> Verdict:
        """What to do with the record at ``offset``. "read" moves the cursor past it. ``now_s`` is any steady clock's.

        "missing" is said once for a gap. If the same gap comes again after the seek, then it is in the topic itself:
        retention, compaction, or the marks of a transaction.
        """
        if offset < self.next_offset:
            return "pass"
        if offset > self.next_offset and offset != self._gap_at:
            if self._gap_at >= 0 and offset > self._gap_at:
                return "pass"  # handed out before the seek; comes again after it
            self._gap_at = offset
            return "missing"
        self.next_offset = offset + 1
        self._gap_at = -1
        self._read_at = now_s
        self._lost_after_s = LOST_AFTER_S
        return "read"

    def has_lost(self, position: int, now_s: float) -> bool:
        """True if the consumer handed out all below ``position``, and for long some of it did not come: seek back.

        A gap shows only when something comes after it; at the end of a partition nothing does.
        """
        if position <= self.next_offset or now_s - self._read_at < self._lost_after_s:
            return False
        self._read_at = now_s
        self._lost_after_s = LOST_AFTER_S
        return True
