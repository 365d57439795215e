"""python -m sink dead-letters list | show | redrive: what could not be read or stored, and how to try it again."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import UnknownTopicOrPartitionError

from sink.letters import REDRIVEN_HEADER, LetterFilter, StoredLetter
from tracecore.errors import MalformedPayload
from tracecore.otlp import decode_spans, span_detail
from tracecore.settings import KafkaSettings

#: How long a partition is waited for, that does not answer.
ANSWER_TIMEOUT_S = 10.0
_REASON_WIDTH = 90


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands and their filters."""
    commands = parser.add_subparsers(dest="action", required=True)
    for action, summary in (
        ("list", "a line a letter"),
        ("show", "letters in full, as JSON"),
        ("redrive", "send letters back to where they came from"),
    ):
        command = commands.add_parser(action, help=summary)
        command.add_argument("places", nargs="*", metavar="PLACE", help="letters by the first column of list")
        command.add_argument("--topic", default="", help="only what came from this topic")
        command.add_argument("--room", default="", help="only what this room gave up: sink, stream, ...")
        command.add_argument("--reason", default="", help="only letters whose reason has this text")
        command.add_argument("--since", type=_time_ms, help="only letters from this time on (ISO 8601)")
        command.add_argument("--until", type=_time_ms, help="only letters before this time (ISO 8601)")
        command.add_argument("--limit", type=int, default=0, help="at most this many, oldest first")
        if action == "redrive":
            command.add_argument("--to", default="", help="send to this topic instead")
            command.add_argument("--dry-run", action="store_true", help="say what would be sent")
            command.add_argument("--all", action="store_true", help="needed to send every letter there is")


async def run(arguments: argparse.Namespace, kafka: KafkaSettings) -> int:
    """Carry out a sub-command; exit code 0, or 1 if nothing was found or a letter has no destination."""
    wanted = LetterFilter(
        frozenset(arguments.places), arguments.topic, arguments.room, arguments.reason, arguments.since, arguments.until
    )
    if arguments.action == "redrive" and wanted == LetterFilter() and not arguments.all:
        print("redrive: name letters or a filter, or say --all", file=sys.stderr)
        return 1
    letters = [letter async for letter in _letters(kafka) if wanted.passes(letter)]
    if arguments.limit:
        letters = letters[: arguments.limit]
    if not letters:
        print("no dead letters" + (" that match" if wanted != LetterFilter() else ""), file=sys.stderr)
        return 0 if arguments.action == "list" else 1
    if arguments.action == "list":
        for letter in letters:
            print(_line(letter))
        return 0
    if arguments.action == "show":
        for letter in letters:
            print(json.dumps(_described(letter), indent=2))
        return 0
    return await _redrive(letters, kafka, arguments.to, arguments.dry_run)


async def _letters(kafka: KafkaSettings) -> AsyncIterator[StoredLetter]:
    """Every letter from the oldest to the newest that is there now."""
    topic = kafka.topics.dead_letters
    consumer = AIOKafkaConsumer(
        topic, enable_auto_commit=False, auto_offset_reset="earliest", fetch_max_wait_ms=100, **kafka.client_options()
    )
    try:
        await consumer.start()
    except UnknownTopicOrPartitionError:
        await consumer.stop()
        return
    try:
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        # The high watermark of a fetch's answer, not end_offsets: the embedded broker's are wrong (docs, FAUST.md).
        waiting = set(consumer.assignment())
        while waiting and time.monotonic() < deadline:
            for tp, messages in (await consumer.getmany(timeout_ms=200)).items():
                deadline = time.monotonic() + ANSWER_TIMEOUT_S
                for m in messages:
                    headers = tuple((name, bytes(value or b"")) for name, value in m.headers)
                    place = f"{tp.partition}/{m.offset}"
                    yield StoredLetter(place, m.timestamp, m.key, m.value or b"", headers)
            for tp in list(waiting):
                end = consumer.highwater(tp)
                if end is not None and await consumer.position(tp) >= end:
                    waiting.discard(tp)
    finally:
        await consumer.stop()


async def _redrive(letters: list[StoredLetter], kafka: KafkaSettings, to: str, dry_run: bool) -> int:
    lost = 0
    async with _producer(kafka, dry_run) as producer:
        for letter in letters:
            topic = to or letter.destination
            if not topic or not letter.value:
                lost += 1
                why = "its value was too large to keep" if topic else "nobody said where it came from: say --to TOPIC"
                print(f"{letter.place}: not sent: {why}", file=sys.stderr)
                continue
            headers = (*letter.own_headers, (REDRIVEN_HEADER, letter.place.encode()))
            if producer is not None:
                await producer.send_and_wait(topic, letter.value, key=letter.key, headers=list(headers))
            print(f"{letter.place}: {'would be sent' if dry_run else 'sent'} to {topic}")
    return 1 if lost else 0


@asynccontextmanager
async def _producer(kafka: KafkaSettings, dry_run: bool) -> AsyncIterator[AIOKafkaProducer | None]:
    if dry_run:
        yield None
        return
    producer = AIOKafkaProducer(acks="all", **kafka.client_options())
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def _line(letter: StoredLetter) -> str:
    reason = letter.reason.replace("\n", " ")
    shown = reason if len(reason) <= _REASON_WIDTH else reason[: _REASON_WIDTH - 1] + "…"
    return f"{letter.place:<10} {_iso(letter.timestamp_ms)}  {letter.origin}  {len(letter.value)} B  {shown}"


def _described(letter: StoredLetter) -> dict[str, object]:
    described: dict[str, object] = {
        "place": letter.place,
        "time": _iso(letter.timestamp_ms),
        "origin": letter.origin,
        "destination": letter.destination,
        "reason": letter.reason,
        "key": (letter.key or b"").decode("utf-8", "backslashreplace"),
        "headers": {name: value.decode("utf-8", "backslashreplace") for name, value in letter.headers},
        "bytes": len(letter.value),
    }
    try:
        spans, rejected = decode_spans(letter.value)
    except MalformedPayload:
        spans, rejected = [], []
    if spans or rejected:
        described["spans"] = [
            _described_span(span.raw) | {"service": span.service, "name": span.name} for span in spans
        ]
    else:
        described["value_hex"] = letter.value.hex()
    return described


def _described_span(raw: bytes) -> dict[str, object]:
    try:
        detail = span_detail(raw)
    except MalformedPayload as error:
        return {"unreadable": str(error), "hex": raw.hex()}
    return {
        "attributes": json.loads(json.dumps(detail.attributes, default=repr)),
        "status_message": detail.status_message,
    }


def _iso(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")


def _time_ms(text: str) -> int:
    try:
        time_read = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 2026-11-22T12:00:00+00:00") from None
    if time_read.tzinfo is None:
        time_read = time_read.replace(tzinfo=UTC)
    return round(time_read.timestamp() * 1000)


def main(arguments: argparse.Namespace, kafka: KafkaSettings) -> int:
    """``run``, in a loop of its own."""
    return asyncio.run(run(arguments, kafka))
