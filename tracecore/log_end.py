"""Whether a Kafka log ends before a place that was read from it: then it is another log, made anew.

One answer of a broker proves nothing. Apache Kafka takes a log's end before it reads the records of the same answer,
and what was appended between the two lies behind that end. Only a later answer that still ends before the place does.
"""

from collections.abc import Hashable


class LogEnds:
    """Remembers, by partition, the place that an answer put in doubt."""

    def __init__(self) -> None:
        self._doubts: dict[Hashable, tuple[int, int]] = {}

    def is_anew(self, partition: Hashable, position: int, end: int, answered_ms: int) -> bool:
        """True if the log of ``partition``, read up to ``position``, is another one than before.

        ``end`` is where the broker's last answer says that it ends, ``answered_ms`` when it was given.
        """
        if end >= position:
            self._doubts.pop(partition, None)
            return False
        doubted, doubted_ms = self._doubts.setdefault(partition, (position, answered_ms))
        if answered_ms <= doubted_ms:
            return False
        self._doubts[partition] = (position, answered_ms)
        return end < doubted
