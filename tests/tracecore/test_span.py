from hypothesis import given
from hypothesis import strategies as st

from tests.tracecore.builders import span
from tests.tracecore.strategies import spans_of_a_trace
from tracecore.span import Span, SpanKind, identity, truer


def test_both_sides_of_a_call_that_share_an_id_are_two_spans() -> None:
    client, server = span(id=1, kind=SpanKind.CLIENT), span(id=1, kind=SpanKind.SERVER)
    assert identity(client) != identity(server)
    assert identity(client) == identity(span(id=1, kind=SpanKind.INTERNAL, duration_ms=3))
    assert identity(server) == identity(span(id=1, kind=SpanKind.SERVER, duration_ms=3))


@given(spans_of_a_trace(), st.randoms(use_true_random=False))
def test_the_truer_of_many_is_the_same_in_any_order(spans: list[Span], random: object) -> None:
    def truest(some: list[Span]) -> Span:
        kept = some[0]
        for one in some[1:]:
            kept = truer(kept, one)
        return kept

    assert truest(spans) == truest(spans[::-1])
    assert truest(spans).end_ns == max(one.end_ns for one in spans)


def test_same_bytes_of_two_resources_are_settled_by_the_resource() -> None:
    one, other = span(id=1, service="a"), span(id=1, service="b")
    assert truer(one, other) == truer(other, one)
