"""Records in, records out: the same traces and windows whatever the order, the batches, the duplicates, the crashes."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.assembler import Limits, SpanBudget
from stream.continuity import Cursor
from stream.handover import Handover, decode_handover, is_timely
from stream.hooks import Hooks
from stream.outgoing import Outgoing, one_by_one
from stream.pipeline import MISDATED_SPAN, Pipeline, Rules
from stream.sampling import SamplingRule
from stream.watermark import watermark
from stream.windows import WindowLimits
from tests.tracecore.builders import MS, T0_NS, closed, order_spans, span
from tracecore.closed_trace import ClosedTrace
from tracecore.finding import Finding
from tracecore.otlp import decode_spans, encode_spans
from tracecore.span import Span, SpanKind
from tracecore.topics import REPLAY_HEADER, Topics
from tracecore.window import HopWindow, OperationWindow, Window
from tracecore.wire import decode_finding, decode_trace, decode_window

SECOND = 1_000_000_000
TOPICS = Topics()
RULES = Rules(
    TOPICS,
    Limits(2 * SECOND, 10 * SECOND, 60 * SECOND, max_spans=1000, amend_ns=60 * SECOND),
    WindowLimits(10 * SECOND, 120 * SECOND, 5 * SECOND, max_series=1000),
    SamplingRule(),
    partitions=1,
)
START_NS = T0_NS


def pipeline(
    rules: Rules = RULES,
    hooks: Hooks | None = None,
    replay_id: str = "",
    memory: int = 10**6,
    told_until_ns: int = 0,
) -> Pipeline:
    return Pipeline(0, rules, SpanBudget(memory), hooks or Hooks(), replay_id, told_until_ns=told_until_ns)


def traces_in(out: Iterable[Outgoing]) -> list[ClosedTrace]:
    return [decode_trace(record.value) for record in one_by_one(out) if record.topic == TOPICS.traces]


def windows_in(out: Iterable[Outgoing]) -> list[Window]:
    return [decode_window(record.value) for record in one_by_one(out) if record.topic == TOPICS.windows]


def findings_in(out: Iterable[Outgoing]) -> list[Finding]:
    return [decode_finding(record.value) for record in one_by_one(out) if record.topic == TOPICS.findings]


@dataclass
class Log:
    """A partition of the topic of spans: (arrival, value, handover's header)."""

    records: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    committed: int = 0
    #: How far windows were told as of what was committed.
    told_until_ns: int = 0


@dataclass
class Worker:
    """What a worker does with a partition, without Kafka."""

    log: Log
    published: list[Outgoing]

    def __post_init__(self) -> None:
        self.cursor = Cursor(self.log.committed, 0)
        self.pipeline = pipeline(told_until_ns=self.log.told_until_ns)

    def read_to(self, end: int) -> None:
        while self.cursor.next_offset < end:
            offset = self.cursor.next_offset
            assert self.cursor.judge(offset, 0) == "read"
            arrival_ns, value, header = self.log.records[offset]
            known = False
            if header:
                handover: Handover = decode_handover(header)
                known = self.cursor.started_at >= handover.next_offset
                if known:
                    self.pipeline.take_over(handover, offset)
            self.published += self.pipeline.read(decode_spans(value)[0], offset, arrival_ns, known)

    def commit(self) -> None:
        self.log.committed = watermark(self.cursor.next_offset, self.pipeline.first_offset)
        self.log.told_until_ns = max(self.pipeline.windows.closed_until_ns, self.log.told_until_ns)

    def stop(self) -> None:
        for record in self.pipeline.handover(self.cursor.next_offset):
            self.log.records.insert(
                len(self.log.records), (self.pipeline.assembler.now_ns, record.value, record.header)
            )
        self.log.committed = self.cursor.next_offset
        self.log.told_until_ns = max(self.pipeline.windows.closed_until_ns, self.log.told_until_ns)


def comparable(trace: ClosedTrace) -> ClosedTrace:
    """Without what tells of arrival, not of the trace."""
    return replace(trace, revision=1, reason="complete", first_arrival_ns=0, last_arrival_ns=0, duplicate_count=0,
                   sampled_by="")  # fmt: skip


def best_traces(out: Iterable[Outgoing]) -> dict[bytes, ClosedTrace]:
    best: dict[bytes, ClosedTrace] = {}
    for trace in traces_in(out):
        if trace.trace_id not in best or trace.span_count > best[trace.trace_id].span_count:
            best[trace.trace_id] = trace
    return best


def best_windows(out: Iterable[Outgoing]) -> dict[tuple[object, ...], Window]:
    best: dict[tuple[object, ...], Window] = {}
    for window in windows_in(out):
        key = (type(window), window.start_ns, window.partition, *window.key)
        # As the sink has it: what is said later counts, unless it counts fewer.
        if key not in best or window.spans >= best[key].spans:
            best[key] = window
    return best


@st.composite
def arrivals(draw: st.DrawFn) -> list[tuple[int, list[Span]]]:
    """Ten traces over forty seconds, each in several records within less than ``settle``, shuffled, with duplicates."""
    records: list[tuple[int, list[Span]]] = []
    for number in range(1, 11):
        start_ms = number * 4000
        spans = draw(st.permutations(order_spans(number, start_ms=start_ms)))
        cuts = sorted(draw(st.lists(st.integers(0, len(spans)), max_size=3)))
        batches = [list(spans[a:b]) for a, b in zip([0, *cuts], [*cuts, len(spans)], strict=True)]
        for batch in batches:
            again = draw(st.lists(st.sampled_from(spans), max_size=2))
            at_ms = start_ms + 100 + draw(st.integers(0, 1800))
            if batch:
                records.append((START_NS + at_ms * MS, batch + again))
    records.sort(key=lambda record: record[0])
    return records


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(records=arrivals(), data=st.data())
def test_any_order_batches_duplicates_crashes_and_stops_give_the_same_traces_and_windows(
    records: list[tuple[int, list[Span]]], data: st.DataObject
) -> None:
    log = Log([(arrival_ns, encode_spans(spans), b"") for arrival_ns, spans in records])
    published: list[Outgoing] = []
    worker = Worker(log, published)
    read = 0
    for _ in range(data.draw(st.integers(0, 4), label="restarts")):
        read = data.draw(st.integers(read, len(records)), label="read to")
        worker.read_to(read)
        if data.draw(st.booleans(), label="commits"):
            worker.commit()
        if data.draw(st.booleans(), label="stops cleanly") and worker.cursor.next_offset == len(log.records):
            worker.stop()
        worker = Worker(log, published)
    worker.read_to(len(log.records))
    published += worker.pipeline.advance(START_NS + 200 * SECOND)

    whole = {trace[0].trace_id: closed(trace) for trace in (order_spans(n, start_ms=n * 4000) for n in range(1, 11))}
    best = best_traces(published)
    assert {key: comparable(trace) for key, trace in best.items()} == {
        key: comparable(trace) for key, trace in whole.items()
    }
    counted = sum(window.spans for window in best_windows(published).values() if isinstance(window, OperationWindow))
    assert counted == 60
    assert worker.pipeline.first_offset is None


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(records=arrivals(), cut=st.integers(0, 40))
def test_a_clean_stop_publishes_nothing_twice(records: list[tuple[int, list[Span]]], cut: int) -> None:
    # The stop comes after ``cut`` records; what is handed over stands behind those in the log, the rest comes later.
    before, after = records[:cut], records[cut:]
    log = Log([(arrival_ns, encode_spans(spans), b"") for arrival_ns, spans in before])
    published: list[Outgoing] = []
    worker = Worker(log, published)
    worker.read_to(len(log.records))
    worker.stop()
    log.records += [(arrival_ns, encode_spans(spans), b"") for arrival_ns, spans in after]
    worker = Worker(log, published)
    worker.read_to(len(log.records))
    published += worker.pipeline.advance(START_NS + 200 * SECOND)
    assert sorted(trace.trace_id for trace in traces_in(published)) == [n.to_bytes(16, "big") for n in range(1, 11)]
    assert all(trace.span_count == 6 for trace in traces_in(published))
    keys = [(type(w), w.start_ns, w.partition, w.key) for w in windows_in(published)]
    assert len(keys) == len(set(keys))
    assert sum(w.spans for w in windows_in(published) if isinstance(w, OperationWindow)) == 60


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    traces=st.integers(1, 120),
    stops=st.lists(st.integers(0, 240), max_size=4),
    step_ms=st.sampled_from([50, 500, 2000]),
)
def test_a_worker_that_stops_while_it_is_behind_loses_nothing(traces: int, stops: list[int], step_ms: int) -> None:
    # All is in the log before the first worker reads; what is handed over comes behind it. Spans of a trace come apart.
    parts = [order_spans(n, start_ms=n * step_ms) for n in range(1, traces + 1)]
    records = [
        (START_NS + (n * step_ms + 200 + 900 * late) * MS, encode_spans(spans[late::2]), b"")
        for n, spans in enumerate(parts, 1)
        for late in (0, 1)
    ]
    log, published = Log(sorted(records)), []
    worker = Worker(log, published)
    for stop in sorted(stops):
        worker.read_to(min(stop, len(log.records)))
        behind_ns = log.records[-1][0] - worker.pipeline.assembler.now_ns
        if is_timely(len(log.records) - worker.cursor.next_offset, behind_ns, RULES.window_limits.grace_ns):
            worker.stop()
        else:
            worker.commit()
        worker = Worker(log, published)
    worker.read_to(len(log.records))
    published += worker.pipeline.advance(START_NS + 900 * SECOND)
    best = best_traces(published)
    assert {trace_id: trace.span_count for trace_id, trace in best.items()} == {
        n.to_bytes(16, "big"): 6 for n in range(1, traces + 1)
    }
    counted = sum(window.spans for window in best_windows(published).values() if isinstance(window, OperationWindow))
    assert counted == traces * 6


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_spans_of_a_clock_that_is_behind_are_counted_once_whatever_crashes(data: st.DataObject) -> None:
    # A trace a second, every other one from a producer whose clock is a minute behind: its windows were told before.
    records = [
        (START_NS + n * SECOND, encode_spans(order_spans(n, start_ms=n * 1000 - 400 - n % 2 * 60_000)), b"")
        for n in range(1, 121)
    ]
    log, published = Log(records), []
    worker = Worker(log, published)
    read = 0
    for _ in range(data.draw(st.integers(0, 5), label="crashes")):
        read = data.draw(st.integers(read, len(records)), label="read to")
        worker.read_to(read)
        if data.draw(st.booleans(), label="commits"):
            worker.commit()
        worker = Worker(log, published)
    worker.read_to(len(log.records))
    published += worker.pipeline.advance(START_NS + 400 * SECOND)
    counted = sum(window.spans for window in best_windows(published).values() if isinstance(window, OperationWindow))
    assert counted == 120 * 6
    assert worker.pipeline.first_offset is None


def test_the_same_records_give_the_same_bytes() -> None:
    def run() -> list[Outgoing]:
        flow = pipeline()
        out: list[Outgoing] = []
        for number in range(1, 30):
            spans = order_spans(number, start_ms=number * 1000, failed=number % 5 == 0)
            out += flow.read(spans[:3], number * 2, START_NS + number * SECOND)
            out += flow.read(spans[3:], number * 2 + 1, START_NS + number * SECOND + SECOND // 2)
        return out + flow.advance(START_NS + 300 * SECOND)

    assert run() == run()


def test_one_producers_clock_ten_minutes_wrong_changes_nothing_for_the_others() -> None:
    def others(wrong_ms: int) -> tuple[list[ClosedTrace], list[Window]]:
        flow = pipeline()
        out: list[Outgoing] = []
        for number in range(1, 20):
            out += flow.read(order_spans(number, start_ms=number * 1000), number, START_NS + number * SECOND + 100 * MS)
            odd = span("tick", trace=1000 + number, service="odd", start_ms=number * 1000 + wrong_ms)
            out += flow.read([odd], number, START_NS + number * SECOND + 100 * MS)
        out += flow.advance(START_NS + 300 * SECOND)
        return (
            [trace for trace in traces_in(out) if trace.root_service != "odd"],
            [w for w in windows_in(out) if not isinstance(w, OperationWindow) or w.service != "odd"],
        )

    right = others(0)
    assert len(right[0]) == 19
    assert others(600_000) == right
    assert others(-600_000) == right


def test_a_span_with_an_incredible_time_counts_at_its_arrival_with_a_warning() -> None:
    flow = pipeline()
    arrival_ns = START_NS + 3600 * SECOND
    flow.read([span("tick")], 0, arrival_ns)
    out = flow.advance(arrival_ns + 60 * SECOND)
    (trace,) = traces_in(out)
    assert trace.spans[0].warnings == (MISDATED_SPAN,)
    assert [window.start_ns for window in windows_in(out)] == [arrival_ns - arrival_ns % (10 * SECOND)]
    assert flow.tally.misdated_spans == 1


def test_windows_tell_operations_hops_and_peers_that_send_no_spans() -> None:
    flow = pipeline()
    flow.read(order_spans(1, failed=True), 0, START_NS + 200 * MS)
    out = flow.advance(START_NS + 30 * SECOND)
    operations = {(w.service, w.operation): w for w in windows_in(out) if isinstance(w, OperationWindow)}
    hops = {w.key: w for w in windows_in(out) if isinstance(w, HopWindow)}
    assert operations["orders", "POST /orders"].error_milli == 1000
    assert set(hops) == {
        ("web", "orders", "POST /orders"),
        ("orders", "postgresql/shop", "INSERT orders"),
        ("orders", "mail", "process orders"),
    }
    assert sum(hops["web", "orders", "POST /orders"].gap.values()) == 1000
    assert hops["orders", "postgresql/shop", "INSERT orders"].gap == {}


def test_an_amended_trace_counts_only_its_new_spans_in_windows() -> None:
    root, late = span("root", id=1, kind=SpanKind.SERVER), span("late", id=2, parent=1)
    flow = pipeline()
    out = flow.read([root], 0, START_NS + 100 * MS)
    out += flow.read([late], 1, START_NS + 20 * SECOND)
    out += flow.advance(START_NS + 60 * SECOND)
    assert [(trace.revision, trace.span_count) for trace in traces_in(out)] == [(1, 1), (2, 2)]
    counts = {w.operation: w.spans for w in best_windows(out).values() if isinstance(w, OperationWindow)}
    assert counts == {"root": 1, "late": 1}


def test_head_sampled_spans_weigh_what_they_stand_for() -> None:
    flow = pipeline()
    flow.read([span("one in ten", trace_state="ot=th:e6666666666668")], 0, START_NS + 100 * MS)
    (window,) = windows_in(flow.advance(START_NS + 60 * SECOND))
    assert (window.spans, window.count_milli) == (1, 10_000)


def test_statistics_are_taken_before_sampling_and_errors_are_kept() -> None:
    flow = pipeline(replace(RULES, sampling=SamplingRule(share=0.0)))
    out: list[Outgoing] = []
    for number in range(1, 51):
        failed = number % 10 == 0
        out += flow.read(order_spans(number, failed=failed), number, START_NS + 200 * MS)
    out += flow.advance(START_NS + 60 * SECOND)
    kept = {trace.sampled_by for trace in traces_in(out)}
    assert kept == {"error", "new_dependency"}
    assert len(traces_in(out)) == 6
    assert flow.tally.sampled_out == 44
    assert sum(w.spans for w in windows_in(out) if isinstance(w, OperationWindow)) == 300


def test_a_trace_that_is_let_go_for_want_of_memory_is_published_and_told() -> None:
    flow = pipeline(memory=5)
    out = flow.read([span(id=1, parent=99), span(id=2, parent=99), span(id=3, parent=99)], 0, START_NS)
    out += flow.read([span(trace=2, parent=99) for _ in range(4)], 1, START_NS)
    assert [trace.span_count for trace in traces_in(out)] == [3]
    (finding,) = findings_in(out)
    assert (finding.kind, finding.observed) == ("shed_trace", 3)
    assert "TRACEWATCH_STREAM_MEMORY_SPANS" in finding.message


def test_what_a_replay_makes_is_marked() -> None:
    flow = pipeline(replay_id="replay-7")
    out = flow.read(order_spans(1), 0, START_NS) + flow.finish()
    assert out
    assert all((REPLAY_HEADER, b"replay-7") in record.headers for record in one_by_one(out))
    assert {trace.replay_id for trace in traces_in(out)} == {"replay-7"}


class _Breaks:
    def on_trace(self, closed: ClosedTrace) -> list[Finding]:
        if closed.trace_id == (1).to_bytes(16, "big"):
            raise RuntimeError("a bug")
        return []


def test_a_trace_that_a_bug_breaks_goes_to_the_dead_letters_and_the_rest_goes_on() -> None:
    flow = pipeline(hooks=Hooks(trace_hook=_Breaks()))
    flow.read([*order_spans(1), *order_spans(2)], 0, START_NS)
    out = flow.advance(START_NS + 5 * SECOND)
    assert [int.from_bytes(trace.trace_id, "big") for trace in traces_in(out)] == [2]
    (letter,) = [record for record in one_by_one(out) if record.topic == TOPICS.dead_letters]
    assert len(decode_spans(letter.value)[0]) == 6
    assert b"a bug" in dict(letter.headers)["tracewatch-reason"]
