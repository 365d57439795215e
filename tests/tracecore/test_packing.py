"""What compiled code writes of a trace is what msgspec writes."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracecore import packing
from tracecore.closed_trace import CLOSE_REASONS, ClosedTrace, CloseReason, PathSegment, ServiceLink, TracedSpan
from tracecore.link_columns import TYPES
from tracecore.packing import LinkValues, RawBytes, Shared, SpanValues, TraceValues, packed_traces, texts
from tracecore.span import Resource, Scope
from tracecore.wire import encode_trace

#: Where MessagePack takes another byte, to both sides.
EDGES = [sign * (2**power + by) for sign in (1, -1) for power in (0, 5, 7, 8, 15, 16, 31, 32, 62) for by in (-1, 0, 1)]
TEXTS = ["", "cart", "ü" * 20, "x" * 31, "x" * 32, "x" * 300, "x" * 70_000]
REASONS: tuple[CloseReason, ...] = get_args(CloseReason)
RESOURCES = [
    tuple(Resource(bytes(raw), "", TEXTS[raw % 3], "host") for raw in range(size)) for size in (0, 1, 15, 16, 300)
]
SCOPES = [tuple(Scope(bytes(raw), "ü") for raw in range(size)) for size in (0, 1, 2, 17)]
SERVICES = [tuple(sorted({resource.service for resource in table})) for table in RESOURCES]

integers = st.sampled_from(EDGES) | st.integers(-(2**63), 2**63 - 1)
raws = st.sampled_from([b"", b"raw", bytes(255), bytes(256), bytes(70_000)])
ids = st.integers(0, 2**64 - 1) | st.just(0)
numbers = st.integers(0, len(TEXTS) - 1)


def several(of: st.SearchStrategy[int], count: int) -> st.SearchStrategy[list[int]]:
    return st.lists(of, min_size=count, max_size=count)


rows = st.tuples(ids, ids, numbers, numbers, several(integers, 11), raws)
links = st.tuples(numbers, numbers, st.integers(0, len(TYPES) - 1), several(integers, 5))
traces = st.tuples(
    st.binary(min_size=16, max_size=16), st.sampled_from(REASONS), several(integers, 8), st.sampled_from(range(5)),
    st.sampled_from(range(4)), st.lists(rows, min_size=1, max_size=20), st.lists(links, max_size=18), st.booleans(),
    st.booleans(), st.sampled_from(["", "all", "ü" * 40]),
)  # fmt: skip
Row = tuple[int, int, int, int, list[int], bytes]
Link = tuple[int, int, int, list[int]]
Trace = tuple[bytes, CloseReason, list[int], int, int, list[Row], list[Link], bool, bool, str]


@pytest.fixture(autouse=True)
def compiled() -> None:
    packing.warm_up()


def id_bytes(number: int) -> bytes:
    return number.to_bytes(8, "big") if number else b""


def column(values: Sequence[int]) -> packing.Array:
    return np.array(values, np.int64)


def bounds(lists: Sequence[Sequence[Any]]) -> packing.Array:
    return np.cumsum([0, *map(len, lists)])


@given(st.lists(traces, max_size=3))
def test_traces_are_packed_as_msgspec_packs_them(given_traces: list[Trace]) -> None:
    _, reasons, of_trace, resources, scopes, rows_of, links_of, has_origin, needs_repair, _ = (
        [trace[k] for trace in given_traces] for k in range(10)
    )
    own: list[packing.Array] = [column([values[k] for values in of_trace]) for k in range(8)]
    first = bounds(rows_of)
    all_rows: list[Row] = [row for trace in given_traces for row in trace[5]]
    all_links: list[Link] = [link for trace in given_traces for link in trace[6]]
    parents = np.arange(len(all_rows)) - 1
    parents[first[:-1]] = -1
    numbers_of = [column([row[4][k] for row in all_rows]) for k in range(11)]
    packed = packed_traces(
        TraceValues(
            needs_repair=np.array(needs_repair, np.bool_),
            trace_ids=np.frombuffer(b"".join(trace[0] for trace in given_traces), np.uint8),
            revisions=own[0],
            reasons=column([CLOSE_REASONS.index(reason) for reason in reasons]),
            first_arrivals=own[1], last_arrivals=own[2], duplicate_counts=own[3], starts=own[4], ends=own[5],
            error_counts=own[6],
            origins=column([len(rows) - 1 if has else -1 for rows, has in zip(rows_of, has_origin, strict=True)]),
            counts_milli=own[7], resources=column(resources), scopes=column(scopes),
        ),
        SpanValues(
            first=first, order=np.arange(len(all_rows))[::-1].copy(),
            span_ids=np.array([row[0] for row in all_rows], np.uint64),
            parent_ids=np.array([row[1] for row in all_rows], np.uint64),
            parents=parents, depths=numbers_of[0], services=column([row[2] for row in all_rows]),
            names=column([row[3] for row in all_rows]), kinds=numbers_of[1], statuses=numbers_of[2],
            starts=numbers_of[3], ends=numbers_of[4], skews=numbers_of[5], self_times=numbers_of[6],
            path_shares=numbers_of[7], gaps=numbers_of[8], resources=numbers_of[9], scopes=numbers_of[10],
            path_first=first, path_spans=np.arange(len(all_rows)) - np.repeat(first[:-1], np.diff(first)),
            path_starts=numbers_of[3], path_ends=numbers_of[4],
        ),
        LinkValues(
            bounds(links_of), *(column([link[k] for link in all_links]) for k in range(3)),
            *(column([link[3][k] for link in all_links]) for k in range(5)),
        ),
        raw_bytes([row[5] for row in reversed(all_rows)]),
        Shared(*map(texts, (TEXTS, TEXTS, TYPES, SERVICES, RESOURCES, SCOPES))),
        b"the tail",
    )  # fmt: skip
    heads = packed.heads()
    assert len(heads) == len(given_traces)
    whole = [packed.records[at:end].tobytes() for at, end in pairwise(packed.bounds.tolist())]
    assert whole == [bytes(head) + b"the tail" if head else b"" for head in heads]
    for head, trace in zip(heads, given_traces, strict=True):
        if trace[8]:
            assert not head
            continue
        expected = closed(trace)
        record = msgspec.msgpack.encode(expected)
        assert encode_trace(expected, 2**40) == [record]
        expected.head = head
        assert encode_trace(expected, 2**40) == [record]


def raw_bytes(each: list[bytes]) -> RawBytes:
    ends = np.cumsum(column([len(raw) for raw in each]))
    return RawBytes(np.frombuffer(b"".join(each), np.uint8), ends - column([len(raw) for raw in each]), ends)


def closed(trace: Trace) -> ClosedTrace:
    trace_id, reason, own, resources, scopes, rows, links, has_origin, _, sampled_by = trace
    above = [0, *(row[0] for row in rows)]
    return ClosedTrace(
        trace_id, own[0], reason, id_bytes(rows[0][0]), TEXTS[rows[0][2]], TEXTS[rows[0][3]], own[4], own[5], own[1],
        own[2], len(rows), own[6], own[3], False, 0, id_bytes(rows[-1][0]) if has_origin else b"", own[7],
        SERVICES[resources], tuple(PathSegment(id_bytes(row[0]), row[4][3], row[4][4]) for row in rows),
        tuple(ServiceLink(TEXTS[link[0]], TEXTS[link[1]], TYPES[link[2]], *link[3]) for link in links), (),
        RESOURCES[resources], SCOPES[scopes],
        tuple(
            TracedSpan(
                id_bytes(row[0]), id_bytes(row[1]), id_bytes(parent), row[4][0], TEXTS[row[2]], TEXTS[row[3]],
                *row[4][1:9], (), *row[4][9:], row[5],
            )
            for row, parent in zip(rows, above, strict=False)
        ),
        sampled_by, sampled_by[:3],
    )  # fmt: skip
