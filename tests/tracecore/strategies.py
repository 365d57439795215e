"""Hypothesis strategies: spans of one trace that may be wrong in every way that the wire allows."""

from hypothesis import strategies as st

from tests.tracecore.builders import T0_NS, span_id, trace_id
from tracecore.span import Resource, Scope, Span

_HOSTS = [
    Resource(bytes([i]), "", service, host) for i, (service, host) in enumerate([("a", "1"), ("b", "2"), ("b", "3")])
]
_SCOPE = Scope(b"", "")


@st.composite
def spans_of_a_trace(draw: st.DrawFn, max_size: int = 25) -> list[Span]:
    """At least one span; ids collide, parents may be missing, own, circular; times may be zero or run backwards."""
    size = draw(st.integers(1, max_size))
    ids = st.integers(1, size)
    spans = []
    for number in range(size):
        start_ns = draw(st.one_of(st.just(0), st.integers(T0_NS, T0_NS + 60)))
        end_ns = draw(st.one_of(st.just(0), st.integers(T0_NS, T0_NS + 90)))
        parent = draw(st.one_of(st.just(0), ids, st.just(999)))
        spans.append(
            Span(
                trace_id(1),
                span_id(draw(ids)),
                span_id(parent) if parent else b"",
                draw(st.sampled_from(["read", "write"])),
                draw(st.integers(0, 5)),
                start_ns,
                end_ns,
                draw(st.integers(0, 2)),
                1000,
                draw(st.sampled_from(_HOSTS)),
                _SCOPE,
                b"%d" % number,
            )
        )
    return spans


@st.composite
def well_timed_trace(draw: st.DrawFn, max_size: int = 25) -> list[Span]:
    """A tree of spans on one host, each of unique id, whose children may overlap and outlive their parents."""
    size = draw(st.integers(1, max_size))
    spans = []
    for number in range(1, size + 1):
        parent = draw(st.integers(1, number - 1)) if number > 1 else 0
        start_ns = T0_NS + draw(st.integers(0, 100))
        spans.append(
            Span(
                trace_id(1), span_id(number), span_id(parent) if parent else b"", "work", 1, start_ns,
                start_ns + draw(st.integers(0, 100)), 0, 1000, _HOSTS[0], _SCOPE, b"",
            )
        )  # fmt: skip
    return spans
