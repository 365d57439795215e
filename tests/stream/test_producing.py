"""Requests are the bytes that aiokafka writes, and are joined once."""

import gc
import struct
import weakref
from typing import get_args

from aiokafka.protocol import produce
from aiokafka.protocol.produce import ProduceRequest
from hypothesis import given
from hypothesis import strategies as st

from stream.producing import _ProduceRequest

topics = st.lists(
    st.tuples(st.text(max_size=20), st.lists(st.tuples(st.integers(0, 2**31 - 1), st.binary(max_size=50)), max_size=4)),
    max_size=3,
)


@given(
    topics, st.none() | st.text(max_size=5), st.sampled_from([-1, 0, 1]), st.sampled_from(ProduceRequest._CLASSES[3:])
)
def test_a_request_is_the_bytes_that_aiokafka_writes(
    topics: list[tuple[str, list[tuple[int, bytes]]]], transactional_id: str | None, acks: int, version: type
) -> None:
    theirs = ProduceRequest(transactional_id, acks, 1_000, topics).build(version)
    ours = _ProduceRequest(transactional_id, acks, 1_000, topics).build(version)
    header = ours.build_request_header(7, "somebody").encode()
    # As aiokafka's connection does.
    message = header + ours.encode()
    sent = struct.pack(">i", len(message)) + message
    assert type(sent) is bytes
    assert sent == struct.pack(">i", len(header) + len(theirs.encode())) + header + theirs.encode()


def test_a_request_that_is_over_is_freed_without_the_collector() -> None:
    request = _ProduceRequest(None, -1, 1_000, [("t", [(0, b"batch")])]).build(ProduceRequest._CLASSES[-1])
    assert b"" + (b"" + request.encode())
    is_there = weakref.ref(request)
    gc.disable()
    try:
        del request
        assert is_there() is None
    finally:
        gc.enable()


def test_every_version_that_aiokafka_speaks_is_written() -> None:
    assert get_args(produce.ProduceRequestStruct) == ProduceRequest._CLASSES
    for version in ProduceRequest._CLASSES:
        request = _ProduceRequest(None, -1, 1_000, [("t", [(0, b"batch")])])
        theirs = ProduceRequest(None, -1, 1_000, [("t", [(0, b"batch")])]).build(version)
        assert b"" + (b"" + request.build(version).encode()) == theirs.encode()
