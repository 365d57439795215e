"""A poison record a second: what cannot be read, or not be stored. Each must be found among the dead letters. Pure."""

from dataclasses import dataclass
from typing import Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tracecore.topics import Topics

#: What finds a poison record among the dead letters: all of them keep these bytes.
MARK: Final = b"poison-%08d-"
POISON_SERVICE: Final = "poison"
#: First bytes of the ids of traces that hold poison.
TRACE_ID_BEGINS: Final = b"\0\0\0\0\0\0\x0b\xad"
KINDS: Final = ("spans", "otlp_spans", "bad_id", "nul", "traces")


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that some room must refuse, or a span in it."""

    number: int
    topic: str
    value: bytes


def poison(number: int, topics: Topics, now_ns: int) -> Poison:
    """The kinds take turns: junk in each of three topics, a span with an id that is none, a span with a NUL."""
    kind = KINDS[number % len(KINDS)]
    mark = MARK % number
    if kind in ("spans", "otlp_spans", "traces"):
        topic = {"spans": topics.spans, "otlp_spans": topics.otlp_spans, "traces": topics.traces}[kind]
        return Poison(number, topic, b"\xff\xff" + mark + b"\xff")
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    name = resource.resource.attributes.add()
    name.key, name.value.string_value = "service.name", POISON_SERVICE
    span = resource.scope_spans.add().spans.add()
    span.trace_id = TRACE_ID_BEGINS + number.to_bytes(8, "big")
    # An id of eight bytes is one; of five it is none.
    span.span_id = b"short" if kind == "bad_id" else (number + 1).to_bytes(8, "big")
    span.name = mark.decode()
    span.start_time_unix_nano, span.end_time_unix_nano = now_ns - 1_000_000, now_ns
    if kind == "nul":
        attribute = span.attributes.add()
        attribute.key, attribute.value.string_value = "nul", "\x00"
    return Poison(number, topics.otlp_spans if kind == "bad_id" else topics.spans, request.SerializeToString())


def number_of(dead_letter: bytes) -> int | None:
    """Which poison record a dead letter is; None if it is none of ours."""
    at = dead_letter.find(b"poison-")
    if at < 0 or not dead_letter[at + 7 : at + 15].isdigit():
        return None
    return int(dead_letter[at + 7 : at + 15])
