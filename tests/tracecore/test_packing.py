"""What compiled code writes of spans is what msgspec writes."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracecore import packing
from tracecore.closed_trace import PathSegment, TracedSpan
from tracecore.packing import SpanValues, packed_traces, texts

#: Where MessagePack takes another byte, to both sides.
EDGES = [sign * (2**power + by) for sign in (1, -1) for power in (0, 5, 7, 8, 15, 16, 31, 32, 62) for by in (-1, 0, 1)]
TEXTS = ["", "cart", "ü" * 20, "x" * 31, "x" * 32, "x" * 300, "x" * 70_000]

integers = st.sampled_from(EDGES) | st.integers(-(2**63), 2**63 - 1)
raws = st.sampled_from([b"", b"raw", bytes(255), bytes(256), bytes(70_000)])
ids = st.integers(0, 2**64 - 1) | st.just(0)
numbers = st.integers(0, len(TEXTS) - 1)
rows = st.tuples(ids, ids, numbers, numbers, st.lists(integers, min_size=11, max_size=11), raws)
traces = st.lists(st.lists(rows, min_size=1, max_size=20), max_size=3)
Row = tuple[int, int, int, int, list[int], bytes]


@pytest.fixture(autouse=True)
def compiled() -> None:
    packing.warm_up()


def id_bytes(number: int) -> bytes:
    return number.to_bytes(8, "big") if number else b""


@given(traces)
def test_spans_and_paths_are_packed_as_msgspec_packs_them(given_traces: list[list[Row]]) -> None:
    given_rows = [row for trace in given_traces for row in trace]
    first = np.cumsum([0, *map(len, given_traces)])
    parents = np.arange(len(given_rows)) - 1
    parents[first[:-1]] = -1

    def column(values: Sequence[int]) -> packing.Array:
        return np.array(values, np.int64)

    depths, kinds, statuses, starts, ends, skews, self_times, shares, gaps, resources, scopes = (
        column([row[4][k] for row in given_rows]) for k in range(11)
    )
    values = SpanValues(
        first=first, needs_repair=np.zeros(len(given_traces), np.bool_),
        span_ids=np.array([row[0] for row in given_rows], np.uint64),
        parent_ids=np.array([row[1] for row in given_rows], np.uint64),
        parents=parents, depths=depths, services=column([row[2] for row in given_rows]),
        names=column([row[3] for row in given_rows]), kinds=kinds, statuses=statuses, starts=starts, ends=ends,
        skews=skews, self_times=self_times, path_shares=shares, gaps=gaps, resources=resources, scopes=scopes,
        path_first=first, path_spans=np.arange(len(given_rows)), path_starts=starts, path_ends=ends,
    )  # fmt: skip
    packed, bounds = packed_traces(values, texts(TEXTS), texts(TEXTS), [row[5] for row in given_rows])
    for t, rows_of_trace in enumerate(given_traces):
        before = [0, *(row[0] for row in rows_of_trace)]
        spans = tuple(
            TracedSpan(
                id_bytes(row[0]), id_bytes(row[1]), id_bytes(parent), row[4][0], TEXTS[row[2]], TEXTS[row[3]],
                *row[4][1:9], (), *row[4][9:], row[5],
            )
            for row, parent in zip(rows_of_trace, before, strict=False)
        )  # fmt: skip
        path = tuple(PathSegment(id_bytes(row[0]), row[4][3], row[4][4]) for row in rows_of_trace)
        start, middle, end = bounds[t]
        assert packed[start:middle] == msgspec.msgpack.encode(spans)
        assert packed[middle:end] == msgspec.msgpack.encode(path)
