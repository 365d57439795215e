"""What this room needs of the consumer that neither Faust nor aiokafka offer in public: all of it, in one place."""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import faust
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import OffsetAndMetadata
from faust.types import TP

from stream.transport import together

logger = logging.getLogger(__name__)

#: Records of spans that are taken in one go, and their bytes: what many have in common is done once, and others have a
#: turn soon (records of a hundred spans: within 10 ms).
RECORDS_AT_ONCE = 128
BYTES_AT_ONCE = 4 * 1024 * 1024


class Fetched(NamedTuple):
    """What the last answer to a fetch told of a partition."""

    #: The offset of the next record that is handed out.
    position: int
    #: The offset after the last record in the partition. Of all ways to learn the end, the embedded broker answers
    #: only this one correctly.
    end: int
    #: How long ago the answer came.
    age_s: float


def last_fetch(app: faust.App, tp: TP) -> Fetched | None:
    """What is known of an assigned partition; None before the first answer."""
    consumer = _aiokafka_consumer(app)
    subscription = consumer._subscription.subscription if consumer is not None else None
    if subscription is None or subscription.assignment is None:
        return None
    partition = next((p for p in subscription.assignment.tps if p == tp), None)
    if partition is None:
        return None
    state = subscription.assignment.state_value(partition)
    if state.highwater is None or state.timestamp is None or not state.has_valid_position:
        return None
    return Fetched(state.position, state.highwater, max(0.0, time.time() - state.timestamp / 1000))


def at_hand(app: faust.App, stream: Any, event: Any, most: int = RECORDS_AT_ONCE) -> list[Any]:
    """The messages of an event that ``stream`` gave, and of those behind it, taken without a turn of Faust's for each.

    Until there are ``most``, or their bytes are enough; the last event is taken whole.
    """
    queue = stream.channel.queue
    messages = [*together(event.message)]
    size = sum(len(message.value or b"") for message in messages)
    while len(messages) < most and size < BYTES_AT_ONCE and not queue.empty():
        message = queue.get_nowait().message
        # As the stream itself does: what was handed out before a rebalance is not looked at.
        if message.generation_id == app.consumer_generation_id and app.flow_control.is_active():
            these = together(message)
            messages += these
            size += sum(len(message.value or b"") for message in these)
    return messages


async def starts(app: faust.App, tps: Iterable[TP]) -> dict[TP, int]:
    """Where reading has to start after an assignment: what was committed, or the beginning of the partition."""
    # Not the consumer's position: a fetch that was under way may have moved it past records that Faust let fall.
    thread = app.consumer._thread  # type: ignore[attr-defined]
    consumer = _aiokafka_consumer(app)
    offsets: dict[TP, int] = {}
    for tp in tps:
        # One by one: the embedded broker answers for the first only.
        offset = await thread.call_thread(consumer.committed, tp)
        if offset is None:
            offset = (await thread.call_thread(consumer.beginning_offsets, [tp]))[tp]
        offsets[tp] = offset
    return offsets


async def offset_at(app: faust.App, tp: TP, since_ms: int) -> int | None:
    """The offset of the first record since a time (Unix ms); None if there is none. The embedded broker answers 0."""
    thread = app.consumer._thread  # type: ignore[attr-defined]
    found = await thread.call_thread(_aiokafka_consumer(app).offsets_for_times, {tp: since_ms})
    at = found.get(tp)
    return at.offset if at is not None else None


async def seek(app: faust.App, tp: TP, offset: int) -> None:
    """Read on from ``offset``."""
    # Faust's own seek() changes aiokafka's state from another thread than aiokafka's: under load the fetcher, in the
    # middle of it, then dies of a KeyError, and the worker with it.
    await app.consumer._thread.call_thread(_seek, app, tp, offset)  # type: ignore[attr-defined]


async def _seek(app: faust.App, tp: TP, offset: int) -> None:
    _aiokafka_consumer(app).seek(tp, offset)


async def commit(app: faust.App, offsets: Mapping[TP, int], notes: Mapping[TP, str] | None = None) -> bool:
    """Commit offsets of assigned partitions, each with a note; False if they are assigned no more."""
    # Faust's public commit() only knows of acknowledged events, and its private one of no notes.
    thread = app.consumer._thread  # type: ignore[attr-defined]
    return bool(await thread.call_thread(_commit, app, offsets, notes or {}))


async def _commit(app: faust.App, offsets: Mapping[TP, int], notes: Mapping[TP, str]) -> bool:
    consumer, thread = _aiokafka_consumer(app), app.consumer._thread  # type: ignore[attr-defined]
    assigned = consumer.assignment()
    committed = {
        TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(offset, notes.get(tp, ""))
        for tp, offset in offsets.items()
        if tp in assigned
    }
    if not committed:
        return False
    try:
        await consumer.commit(committed)
    except (CommitFailedError, IllegalStateError) as error:
        logger.info("not committed, for partitions are assigned anew: %r", error)
        return False
    except Exception as error:
        # As Faust does: the process ends, and its successor starts at what was committed.
        logger.exception("committing failed")
        await thread.crash(error)
        return False
    return True


async def notes(app: faust.App, tps: Iterable[TP]) -> dict[TP, str]:
    """What was noted with the committed offset of each partition; "" without."""
    thread, coordinator = app.consumer._thread, _aiokafka_consumer(app)._coordinator  # type: ignore[attr-defined]
    found: dict[TP, str] = {}
    for tp in tps:
        # One by one: the embedded broker answers for the first only.
        partition = TopicPartition(tp.topic, tp.partition)
        committed = (await thread.call_thread(coordinator.fetch_committed_offsets, [partition])).get(partition)
        found[tp] = committed.metadata if committed is not None else ""
    return found


def _aiokafka_consumer(app: faust.App) -> Any:
    return getattr(getattr(app.consumer, "_thread", None), "_consumer", None)
