"""Slow spans, judged as their trace closes: self time and network gap against the operation's own past.

A span's duration blames every caller of a slow callee. Its self time does not, nor does the gap between the client's
span and the server's, which is all that shows of a slow network.

A finding says in its label ``extent`` whether most of the last traces were slow there, or some: one trace in a hundred
is always slow somewhere, and only the first is worth an alert before the windows have judged. A gap has two ends; it
is "most" only while the caller's other hops and its own time are as usual, for else the caller may be to blame.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from stream.detection.finding_id import finding_id
from stream.detection.log_baseline import LogBaseline
from stream.detection.recent import Recent
from stream.detection.runs import Run, runs
from tracecore.analysed import AnalysedSpans
from tracecore.closed_trace import ClosedTrace, TracedSpan
from tracecore.finding import Finding
from tracecore.span import SpanKind

try:
    from stream.detection import usual_spans
except (ImportError, RuntimeError):  # no numba: then there are no runs to judge at once
    usual_spans = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from stream.detection.usual_spans import Bounds, UsualSpans

MILLISECOND_NS = 1_000_000
#: How fast the share of slow traces is followed, and from where it is most of them: seven in a row.
SHARE_RATE, MOST = 0.2, 0.75
#: A share below this is forgotten: thirty traces after the last slow one.
NO_SHARE = 0.001
#: Another hop of the caller, or its own time, that is slow in this share of traces makes the caller a suspect.
SUSPECT = 0.3
#: Spans are sooner judged one by one, unless there are this many for each of their series.
MIN_SPANS_A_SERIES = 1
# Plain integers: to compare with an enum's member costs three times as much, for every span.
_RECEIVING = (int(SpanKind.SERVER), int(SpanKind.CONSUMER))
_CALLING = (int(SpanKind.CLIENT), int(SpanKind.PRODUCER))

Key = TypeVar("Key")

#: Series remembered; beyond it new ones are not judged (operation names that hold ids would fill the memory).
MAX_SERIES = 50_000

#: Which part of a span's time is judged.
Part = Literal["self_time", "gap"]
#: Service, operation, kind, part.
SeriesKey = tuple[str, str, int, Part]


@dataclass(frozen=True, slots=True)
class SlowSpanSettings:
    """When a span is slow. It must be all of it: improbable, much longer than usual, and long enough to matter."""

    min_count: int = 100
    min_score: float = 6.0
    min_ratio: float = 3.0
    floor_ns: int = 10 * MILLISECOND_NS


_DEFAULT = SlowSpanSettings()


class SlowSpans:
    """The trace hook. A worker has its own baselines, of the traces it saw."""

    def __init__(
        self, settings_of: Callable[[str], SlowSpanSettings] = lambda service: _DEFAULT, replay_id: str = ""
    ) -> None:
        """``settings_of`` has the knobs of a service."""
        self._settings_of = settings_of
        self._replay_id = replay_id
        self._baselines: Recent[SeriesKey, LogBaseline] = Recent(MAX_SERIES, LogBaseline)
        #: Of the last few traces with a series, the share in which it was slow.
        self._slow_shares: dict[SeriesKey, float] = {}
        #: The same of a service's own time (its name), and of a hop (caller, callee).
        self._slow_parts: dict[tuple[str, ...], float] = {}

    def on_traces(self, closed: Sequence[ClosedTrace]) -> dict[int, list[Finding]]:
        """``on_trace`` of each, in their order, by its place; what is usual is learned by compiled code."""
        found: dict[int, list[Finding]] = {}
        first = 0
        for traces in runs(closed, only_first=True):
            judged = self._on_usual(traces) if isinstance(traces, Run) else self._one_by_one(traces, 0)
            found |= {first + place: findings for place, findings in judged.items()}
            first += len(traces)
        return found

    def on_trace(self, closed: ClosedTrace) -> list[Finding]:
        """The slowest part of the trace that is far outside its baseline, if there is one; O(spans)."""
        if not _is_judged(closed):
            # Read before, or with holes: what a missing child did would be taken for its parent's self time.
            return []
        seen = _Seen()
        # While nothing was slow of late, a span that is not slow has nothing to tell but its duration.
        follows = bool(self._slow_shares or self._slow_parts)
        service_of = {span[0]: span[4] for span in closed.spans}
        answered = {span[2] for span in closed.spans if span[6] in _RECEIVING}
        judge = self._judge
        # Fields by position (11: self time, 13: gap): a name costs as much as the arithmetic, and every span is here.
        for span in closed.spans:
            # What an answered call waits for is its callee's, or the network's, and judged as the callee's gap.
            if span[11] > 0 and not (span[6] in _CALLING and span[0] in answered):
                judge(span, "self_time", span[11], (span[4],), seen, follows)
            if span[13] > 0:
                judge(span, "gap", span[13], (service_of.get(span[2], ""), span[4]), seen, follows)
        if seen.slow_series:
            _follow(self._slow_shares, seen.slow_series)
            _follow(self._slow_parts, seen.slow_parts)
        if seen.slowest is None:
            return []
        _, span, part, usual_ns = seen.slowest
        extent = self._extent(span, part, service_of.get(span.tree_parent_id, ""))
        return [self._finding(closed, span, part, usual_ns, extent)]

    def _one_by_one(self, traces: Sequence[ClosedTrace], first: int) -> dict[int, list[Finding]]:
        """By place the findings in ``traces`` from ``first`` on."""
        judged = ((place, self.on_trace(traces[place])) for place in range(first, len(traces)))
        return {place: findings for place, findings in judged if findings}

    def _on_usual(self, traces: Run) -> dict[int, list[Finding]]:
        found: dict[int, list[Finding]] = {}
        usual = usual_spans.UsualSpans(traces.spans, traces.numbers)
        position = 0
        # Of more series than there is room for, which are forgotten hangs on the order of all spans.
        if (
            self._baselines.has_room(len(usual.series))
            and traces.span_count() >= len(usual.series) * MIN_SPANS_A_SERIES
        ):
            lent = _Lent(usual, self._baselines, self._slow_shares, self._slow_parts)
            bounds = self._bounds(traces.spans)
            try:
                while position < len(traces):
                    position = usual.learned(position, lent.baselines, bounds, lent.shares)
                    if position == len(traces):
                        break
                    with lent.needed_for(position):
                        findings = self.on_trace(traces[position])
                    if findings:
                        found[position] = findings
                    position += 1
            finally:
                lent.give_back()
        return found | self._one_by_one(traces, position)

    def _bounds(self, spans: AnalysedSpans) -> "Bounds":
        settings = [self._settings_of(service) for service, _, _ in spans.operations.keys]
        return usual_spans.Bounds(
            np.array([one.min_count for one in settings], np.int64),
            np.array([one.min_score for one in settings], np.float64),
            np.array([usual_spans.log_ratio(one.min_ratio) for one in settings], np.float64),
            np.array([one.floor_ns for one in settings], np.int64),
        )

    def _judge(
        self, span: TracedSpan, part: Part, taken_ns: int, place: tuple[str, ...], seen: "_Seen", follows: bool
    ) -> None:
        """Judge a part of a span, then learn it."""
        key = span[4], span[5], span[6], part
        baseline = self._baselines.young.get(key) or self._baselines.of(key)
        log_ns = math.log(taken_ns)
        # Half of all are faster than usual.
        excess_ns = self._excess_ns(span[4], baseline, taken_ns) if log_ns > baseline.level else 0
        if excess_ns or follows:
            seen.slow_series[key] = seen.slow_series.get(key, False) or excess_ns > 0
            seen.slow_parts[place] = seen.slow_parts.get(place, False) or excess_ns > 0
            if excess_ns and (seen.slowest is None or excess_ns > seen.slowest[0]):
                seen.slowest = excess_ns, span, part, baseline.typical_ns
        baseline.learn_log(log_ns)

    def _extent(self, span: TracedSpan, part: Part, caller: str) -> str:
        if self._slow_shares.get((span.service, span.name, span.kind, part), 0.0) < MOST:
            return "some"
        if part == "gap":
            this = caller, span.service
            others = (share for place, share in self._slow_parts.items() if caller in place and place != this)
            if max(others, default=0.0) >= SUSPECT:
                return "some"
        return "most"

    def _excess_ns(self, service: str, baseline: LogBaseline, taken_ns: int) -> int:
        """By how much a span is too slow; 0 if it is not."""
        settings = self._settings_of(service)
        usual_ns = baseline.typical_ns if baseline.count >= settings.min_count else float("inf")
        excess_ns = taken_ns - usual_ns
        if excess_ns < settings.floor_ns or taken_ns < settings.min_ratio * usual_ns:
            return 0
        return int(excess_ns) if baseline.score(taken_ns) >= settings.min_score else 0

    def _finding(self, closed: ClosedTrace, span: TracedSpan, part: Part, usual_ns: float, extent: str) -> Finding:
        taken_ns = span.self_time_ns if part == "self_time" else span.gap_ns
        where = "of its own time" if part == "self_time" else "between its caller and itself"
        path = _path(closed, span)
        return Finding(
            finding_id=finding_id("slow_span", closed.trace_id, span.span_id),
            kind="slow_span",
            service=span.service,
            operation=span.name,
            at_ns=span.end_ns + span.skew_ns,
            arrival_ns=closed.last_arrival_ns,
            observed=float(taken_ns),
            unit="ns",
            baseline=usual_ns,
            message=f"{taken_ns / 1e6:.1f} ms {where}, usually {usual_ns / 1e6:.1f} ms",
            trace_id=closed.trace_id.hex(),
            span_id=span.span_id.hex(),
            labels={"part": part, "extent": extent},
            impacted=path[-2::-1],
            path=path,
            replay_id=self._replay_id,
        )


def _is_judged(closed: ClosedTrace) -> bool:
    return closed.revision == 1 and not closed.missing_parents


def _series_key(spans: AnalysedSpans, series: int) -> SeriesKey:
    service, name, kind = spans.operations.keys[series // 2]
    return service, name, kind, "gap" if series % 2 else "self_time"


def _path(closed: ClosedTrace, span: TracedSpan) -> tuple[str, ...]:
    """The services from the trace's root to a span, each once."""
    by_id = {one.span_id: one for one in closed.spans}
    services: dict[str, None] = {}
    above: TracedSpan | None = span
    while above is not None:
        services[above.service] = None
        above = by_id.get(above.tree_parent_id)
    return tuple(reversed(services))


class _Seen:
    """What one trace shows: by series and by place whether it was slow there, and the slowest part of all."""

    __slots__ = ("slow_parts", "slow_series", "slowest")

    def __init__(self) -> None:
        self.slow_series: dict[SeriesKey, bool] = {}
        self.slow_parts: dict[tuple[str, ...], bool] = {}
        #: By how much, where, and what is usual there.
        self.slowest: tuple[int, TracedSpan, Part, float] | None = None


def _follow(shares: dict[Key, float], slow: Mapping[Key, bool]) -> None:
    """Let the shares follow what one trace shows; a share that is next to nothing is not kept."""
    for key, is_slow in slow.items():
        share = shares.get(key, 0.0)
        share += SHARE_RATE * (is_slow - share)
        if share >= NO_SHARE:
            shares[key] = share
        elif key in shares:
            del shares[key]


class _Lent:
    """What a judge remembers of the series of one analysis, in columns for compiled code to learn.

    The judge has it back with ``give_back``, and for a while what is ``needed_for`` a trace.
    """

    def __init__(
        self,
        usual: "UsualSpans",
        baselines: Recent[SeriesKey, LogBaseline],
        slow_shares: dict[SeriesKey, float],
        slow_parts: dict[tuple[str, ...], float],
    ) -> None:
        spans = usual.spans
        self._usual, self._slow_shares, self._slow_parts = usual, slow_shares, slow_parts
        self._series = {_series_key(spans, series): series for series in usual.series}
        self._services = {service: number for number, service in enumerate(spans.service_names)}
        self._held = {series: baselines.of(key) for key, series in self._series.items()}
        count = 2 * len(spans.operations.keys)
        self.baselines = usual_spans.Baselines(np.zeros(count, np.int64), np.zeros(count), np.zeros(count))
        self._take(usual.series)

    @contextmanager
    def needed_for(self, position: int) -> Iterator[None]:
        """The judge looks at the trace of this position itself."""
        spans, trace = self._usual.spans, self._usual.traces[position]
        operations = np.unique(spans.operations.of[spans.first[trace] : spans.first[trace + 1]]).tolist()
        series = [2 * operation + part for operation in operations for part in range(2)]
        its = [one for one in series if one in self._held]
        self._give(its)
        yield
        self._take(its)

    def give_back(self) -> None:
        """Let the judge have all of it."""
        self._give(self._usual.series)

    def _take(self, series: Sequence[int]) -> None:
        held = [self._held[one] for one in series]
        self.baselines.counts[series] = [baseline.count for baseline in held]
        self.baselines.levels[series] = [baseline.level for baseline in held]
        self.baselines.variances[series] = [baseline.variance for baseline in held]
        # Few are slow, so all that are followed are always taken and given.
        of_series, of_services = np.zeros(len(self.baselines.counts)), np.zeros(len(self._services))
        for key, share in self._slow_shares.items():
            if key in self._series:
                of_series[self._series[key]] = share
        hops: list[tuple[int, ...]] = []
        of_hops: list[float] = []
        for place, share in self._slow_parts.items():
            if self._services.keys() >= set(place):
                numbers = tuple(self._services[service] for service in place)
                if len(numbers) == 1:
                    of_services[numbers[0]] = share
                else:
                    hops.append(numbers)
                    of_hops.append(share)
        self._hops = {hop: number for number, hop in enumerate(hops)}
        self.shares = usual_spans.SlowShares(
            of_series,
            of_services,
            np.array(hops, np.int64).reshape(-1, 2),
            np.array(of_hops, np.float64),
            SHARE_RATE,
            NO_SHARE,
        )

    def _give(self, series: Sequence[int]) -> None:
        learned = (column[series].tolist() for column in self.baselines)
        for one, *values in zip(series, *learned, strict=True):
            baseline = self._held[one]
            baseline.count, baseline.level, baseline.variance = values
        for key in self._slow_shares.keys() & self._series.keys():
            _keep(self._slow_shares, key, self.shares.series[self._series[key]])
        for place in [place for place in self._slow_parts if self._services.keys() >= set(place)]:
            numbers = tuple(self._services[service] for service in place)
            is_hop = len(numbers) == 2
            followed = self.shares.by_hop[self._hops[numbers]] if is_hop else self.shares.services[numbers[0]]
            _keep(self._slow_parts, place, followed)


def _keep(shares: dict[Key, float], key: Key, followed: float) -> None:
    """Bring a share up to date; one that is next to nothing is not kept."""
    if followed:
        shares[key] = float(followed)
    else:
        del shares[key]
