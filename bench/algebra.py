"""CPU of trace analysis, a span: the whole, and its steps. ``python -m bench.algebra [spans a trace] [traces]``"""

import gc
import sys
from collections.abc import Callable, Sequence
from time import process_time

from tests.tracecore.builders import order_spans, span_id, trace_id
from tracecore import wire
from tracecore.analysis import closed_trace
from tracecore.closed_trace import ClosedTrace
from tracecore.critical_path import critical_path
from tracecore.dependency_links import dependency_links
from tracecore.error_origin import error_origin
from tracecore.hops import network_gaps
from tracecore.otlp import decode_spans, encode_spans
from tracecore.self_time import self_times
from tracecore.skew import corrected_for_skew
from tracecore.span import Span
from tracecore.timeline import timeline_as_sent
from tracecore.tree import trace_tree

ROUNDS = 5


def main(spans_a_trace: int = 24, traces: int = 500) -> None:
    """Print microseconds a span, the best of five rounds."""
    inputs = [shop_trace(number, spans_a_trace) for number in range(1, traces + 1)]
    count = sum(map(len, inputs))
    requests = [encode_spans(spans) for spans in inputs]
    trees = [trace_tree(spans) for spans in inputs]
    sent = [timeline_as_sent(tree) for tree in trees]
    timelines = [corrected_for_skew(tree, timeline) for tree, timeline in zip(trees, sent, strict=True)]
    gaps = [network_gaps(tree, timeline) for tree, timeline in zip(trees, timelines, strict=True)]
    closed = [_closed(spans) for spans in inputs]
    print(f"{traces} traces of {spans_a_trace} spans, {len(closed[0].links)} links; us a span")

    def show(name: str, work: Callable[..., object], *arguments: Sequence[object]) -> None:
        print(f"  {name:24} {_best(work, *arguments) / count * 1e6:6.2f}")

    show("decode_spans", decode_spans, requests)
    show("closed_trace", _closed, inputs)
    show("  tree", trace_tree, inputs)
    show("  skew", corrected_for_skew, trees, sent)
    show("  self time", self_times, trees, timelines)
    show("  critical path", critical_path, trees, timelines)
    show("  network gaps", network_gaps, trees, timelines)
    show("  links", dependency_links, trees, timelines, gaps)
    show("  error origin", error_origin, trees, timelines)
    show("encode_trace", wire.encode_trace, closed)


def shop_trace(number: int, size: int) -> list[Span]:
    """``size`` spans of one trace: the shop's request again and again, each below the one before."""
    shapes = order_spans(failed=number % 10 == 0)
    spans: list[Span] = []
    for i in range(size):
        shape, base = shapes[i % len(shapes)], i - i % len(shapes)
        parent = int.from_bytes(shape.parent_span_id)
        spans.append(
            shape._replace(
                trace_id=trace_id(number),
                span_id=span_id(i + 1),
                parent_span_id=span_id(base + parent) if parent else span_id(base - 3) if base else b"",
                start_ns=shape.start_ns + i,
            )
        )
    return spans


def _closed(spans: list[Span]) -> ClosedTrace:
    return closed_trace(spans[0].trace_id, spans, revision=1, reason="complete", first_arrival_ns=0, last_arrival_ns=0)


def _best(work: Callable[..., object], *arguments: Sequence[object]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        gc.collect()
        gc.disable()
        began = process_time()
        for values in zip(*arguments, strict=True):
            work(*values)
        best = min(best, process_time() - began)
        gc.enable()
    return best


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
