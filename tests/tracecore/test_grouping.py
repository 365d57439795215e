"""The spans of a request by trace are those that the plain decoder finds."""

from collections.abc import Sequence

import pytest
from hypothesis import given

from tests.tracecore.builders import order_spans
from tests.tracecore.strategies import requests_of_few_ids
from tests.tracecore.test_batch_decoding import requests
from tracecore import batch_decoding, otlp
from tracecore.grouped_spans import GroupedSpans
from tracecore.otlp import encode_spans
from tracecore.span import Span, identity


@pytest.fixture(autouse=True)
def compiled() -> None:
    batch_decoding.warm_up()


def check(found: GroupedSpans, spans: Sequence[Span]) -> None:
    """``found`` has ``spans``, whose order is the request's, by trace."""
    by_trace: dict[bytes, list[Span]] = {}
    for span in spans:
        by_trace.setdefault(span.trace_id, []).append(span)
    assert [group[0] for group in found.groups] == list(by_trace)
    for trace_id, low, high, has_root, has_twins in found.groups:
        group = by_trace[trace_id]
        assert found.columns[low:high] == group
        assert bool(has_root) == any(not span.parent_span_id for span in group)
        identities = {identity(span) for span in group}
        assert bool(has_twins) == (len(identities) < len(group))
        assert len(set(found.keys[low:high])) == len(identities)
    assert len(found) == len(spans)
    assert found.in_order() == spans
    assert found.failed() == [span for span in spans if span.is_error]


@given(requests)
def test_any_request(request: bytes) -> None:
    (found,) = batch_decoding.plain_spans([request])
    if found is not None:
        check(found, otlp.decode_spans(request)[0])


@given(requests_of_few_ids())
def test_requests_whose_ids_collide(request: bytes) -> None:
    (found,) = batch_decoding.plain_spans([request])
    assert found is not None
    check(found, otlp.decode_spans(request)[0])


def test_a_span_that_was_sent_twice_and_one_id_on_both_sides_of_a_call() -> None:
    spans = order_spans()
    for sent in ([*spans, spans[2]], [*spans, spans[2]._replace(kind=5)]):
        request = encode_spans(sent)
        (found,) = batch_decoding.plain_spans([request])
        assert found is not None
        check(found, otlp.decode_spans(request)[0])
