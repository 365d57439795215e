"""Sending waits while workers are far behind: what they have not read yet must not outgrow the topic."""

import asyncio
from typing import Final

from replay.backlog import Backlog
from replay.completion import Check, Completion
from replay.publisher import ReplayPublisher

#: Workers that commit nothing for this long are not waited for: what they hold may be open until more comes.
STANDSTILL_S: Final = 5.0
_LOOK_S: Final = 0.25


class Ahead:
    """How far one replay's sending is ahead of its workers."""

    def __init__(self, completion: Completion, group: str, topic: str, max_bytes: int) -> None:
        self._completion = completion
        self._group = group
        self._topic = topic
        self._max_bytes = max_bytes
        self._backlog = Backlog()

    async def stay_near(self, publisher: ReplayPublisher, check: Check) -> None:
        """Wait until at most so many bytes of what was sent are not committed by the workers."""
        clock = asyncio.get_running_loop().time
        self._backlog.note(publisher.next_offsets, publisher.sent_bytes)
        last: dict[int, int] = {}
        moved_at = clock()
        while True:
            committed = await self._completion.committed_offsets(self._group, self._topic, publisher.next_offsets)
            if committed != last:
                last, moved_at = committed, clock()
            is_far = self._backlog.ahead_bytes(committed) > self._max_bytes
            if not is_far or clock() - moved_at > STANDSTILL_S:
                return
            await check()
            await asyncio.sleep(_LOOK_S)
