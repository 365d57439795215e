"""Messages of the feeds as JSON text, version 1 of docs/asyncapi.yaml.

The event itself is encoded once; a message is put around it by joining bytes, since a subscriber that catches up
has a cursor of its own.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

VERSION = 1

GapReason = Literal["slow", "expired", "unknown_cursor"]

_json = msgspec.json.Encoder()


class Gap(msgspec.Struct, frozen=True, tag="gap", tag_field="type"):
    """The feed was interrupted. ``cursor`` is where it goes on; ``lost`` how many events are gone, None if unknown."""

    cursor: str
    reason: GapReason
    lost: int | None
    detail: str


def event_message(event_type: str, cursor: str, body: bytes) -> bytes:
    """``body``, which is JSON, in its envelope: ``{"type": "alert", "cursor": "...", "alert": {...}}``."""
    return b'{"type":"%b","cursor":"%b","%b":%b}' % (event_type.encode(), cursor.encode(), event_type.encode(), body)


def snapshot_message(feed: str, cursor: str, items: Iterable[bytes]) -> bytes:
    """What a subscriber sees first: all alerts that fire, each as JSON; of traces, none."""
    head = b'{"type":"snapshot","version":%d,"cursor":"%b","%b":' % (VERSION, cursor.encode(), feed.encode())
    return b"%b[%b]}" % (head, b",".join(items))


def heartbeat_message(cursor: str) -> bytes:
    """The feed lives; ``cursor`` is as good to resume from as an event's."""
    return b'{"type":"heartbeat","cursor":"%b"}' % cursor.encode()


def gap_message(gap: Gap) -> bytes:
    """A gap as JSON."""
    return _json.encode(gap)
