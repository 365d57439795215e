"""Compiled code reads of many spans the peers that ``peer_of`` reads of each."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

from tests.tracecore.builders import span_id, trace_id
from tracecore import named_peers
from tracecore.packing import RawBytes
from tracecore.peers import KEYS, peer_of

keys = st.sampled_from(sorted(key.decode() for key in KEYS)) | st.sampled_from(["http.route", "", "peer", "ü" * 80])
values = st.sampled_from(["kafka", "redis", "0", "True", "receive", "10.0.0.1", "rates.example:80", "", "ü" * 100])
attributes = st.lists(st.tuples(keys, values | st.integers(-1, 2**40)), max_size=20)
sound = st.builds(
    lambda pairs, name, start_ns, has_link: SpanMessage(
        trace_id=trace_id(1),
        span_id=span_id(1),
        name=name,
        start_time_unix_nano=start_ns,
        flags=257,
        attributes=[
            {"key": key, "value": {"int_value": value} if isinstance(value, int) else {"string_value": value}}
            for key, value in pairs
        ],
        events=[{"name": "peer.service", "attributes": [{"key": "peer.service"}]}],
        links=[{"trace_id": trace_id(2)}] if has_link else [],
    ).SerializeToString(),
    attributes,
    st.text(max_size=5),
    st.integers(0, 2**63),
    st.booleans(),
)


def cut(raw: bytes, place: int, byte: int, keep: int) -> bytes:
    """``raw`` with another byte somewhere, and less of it."""
    place %= len(raw)
    return (raw[:place] + bytes([byte]) + raw[place + 1 :])[: len(raw) - keep]


damaged = st.builds(cut, sound, st.integers(0, 500), st.integers(0, 255), st.integers(0, 3))
#: Fields of kinds that no span has, keys that end early, numbers of many bytes.
odd = st.lists(
    st.sampled_from(
        [
            b"\x4a\x00", b"\x4a\x01\x0a", b"\x4a\x02\x0a\x00", b"\x4a\x03\x0a\x09p", b"\x4a\x0e\x0a\x0cpeer.service",
            b"\xca\x00\x0e\x0a\x0cpeer.service", b"\x4a\x8e\x80\x80\x00\x0a\x0cpeer.service", b"\x48\x01", b"\x4b",
            b"\x4a\x8e\x80\x80\x80\x80\x00\x0a\x0cpeer.service", b"\x4c", b"\x49" + bytes(8), b"\x4d" + bytes(4),
            b"\x00", b"\x08" + b"\xff" * 9 + b"\x01", b"\x08" + b"\xff" * 8 + b"\x01", b"\x08" + b"\xff" * 11,
            b"\x4a\xff\xff\xff\xff\x7f",
        ]
    ),
    max_size=6,
).map(b"".join)  # fmt: skip


@pytest.fixture(autouse=True)
def compiled() -> None:
    named_peers.warm_up()


@given(st.lists(sound | damaged | odd, max_size=30))
@example([SpanMessage(attributes=[{"key": "db.system", "value": {"string_value": "x"}}] * 17).SerializeToString()] * 2)
def test_peers_of_many_spans_are_those_of_each(raws: list[bytes]) -> None:
    raws += raws[::2]
    bounds = np.cumsum([0, *map(len, raws)])
    given_bytes = RawBytes(np.frombuffer(b"".join(raws), np.uint8), bounds[:-1], bounds[1:])
    of, peers = named_peers.named_peers(np.arange(len(raws))[::-1].copy(), given_bytes)
    assert [None if n < 0 else peers[n] for n in of.tolist()] == [peer_of(raw) for raw in reversed(raws)]
    assert len(set(peers)) == len(peers)
