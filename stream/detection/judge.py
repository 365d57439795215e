"""One window of the whole system to findings: latency with its cause, errors, traffic, dependencies.

A latency finding names a service only when two windows in a row name it: at the edge of an incident, series come in
one after the other, and the first is not always the right one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stream.detection.cause import Cause, causes
from stream.detection.dependencies import Dependencies, DependencyVerdict
from stream.detection.finding_id import finding_id
from stream.detection.hour_of_day import HourProfiles
from stream.detection.knobs import Tuning
from stream.detection.latency import Latency
from stream.detection.objectives import Objectives
from stream.detection.rates import Rates, RateVerdict
from stream.detection.round_merger import WholeWindow
from tracecore.finding import Finding

#: A name is said again within this time, or the first time did not count.
AGAIN_WITHIN_NS = 60 * 1_000_000_000


@dataclass(slots=True)
class _Named:
    first_ns: int
    last_ns: int
    times: int


class Judge:
    """Everything that is learned per window, for live spans or for one replay."""

    def __init__(self, replay_id: str = "") -> None:
        #: Knobs; set from the rules.
        self.tuning = Tuning()
        #: What days have taught; the one thing learned here that is worth storing.
        self.hours = HourProfiles()
        self._latency = Latency(lambda service: self.tuning.of(service).latency, self.hours)
        self._rates = Rates(lambda service: self.tuning.of(service).rates, self.hours)
        self._dependencies = Dependencies(lambda caller: self.tuning.of(caller).dependencies)
        #: What people promised; set from the rules.
        self.objectives = Objectives(replay_id)
        self._replay_id = replay_id
        self._named: dict[str, _Named] = {}
        #: By service, how many times slower it was in the last window: only those that were named.
        self.slow: dict[str, float] = {}

    def judge(self, window: WholeWindow) -> list[Finding]:
        """The findings of a window, in a fixed order; then learn from it."""
        confirmed = self._confirmed(window)
        self.slow = {cause.service: max(series.tally.factor for series in cause.explained) for cause in confirmed}
        findings = [finding for cause in confirmed for finding in self._latency_findings(cause, window)]
        findings += [self._rate_finding(verdict, window) for verdict in self._rates.judge(window)]
        findings += [self._dependency_finding(verdict, window) for verdict in self._dependencies.judge(window)]
        return findings + self.objectives.judge(window)

    def _confirmed(self, window: WholeWindow) -> Sequence[Cause]:
        confirmed: list[Cause] = []
        for cause in causes(self._latency.judge(window)):
            since_ns = min(series.since_ns for series in cause.explained)
            named = self._named.get(cause.service)
            if named is None or window.end_ns - named.last_ns > AGAIN_WITHIN_NS:
                named = self._named[cause.service] = _Named(since_ns, window.end_ns, 0)
            named.last_ns = window.end_ns
            named.times += 1
            if named.times >= 2:
                confirmed.append(cause)
        return confirmed

    def _latency_findings(self, cause: Cause, window: WholeWindow) -> list[Finding]:
        """What was seen now; the second time also what was seen when it began, which nobody was told of."""
        named = self._named[cause.service]
        times_ns = [named.first_ns, window.end_ns] if named.times == 2 else [window.end_ns]
        return [self._latency_finding(cause, window, at_ns) for at_ns in times_ns]

    def _latency_finding(self, cause: Cause, window: WholeWindow, at_ns: int) -> Finding:
        worst = cause.explained[0]
        operation, excess_ns = worst.tally.worst
        where = "of its own time" if len(worst.key) == 1 else f"between {worst.key[0]} and {worst.key[1]}"
        usual_ns = worst.tally.usual_ns / worst.tally.count
        observed_ns = usual_ns + worst.tally.excess_ns / worst.tally.count
        return Finding(
            finding_id=finding_id("latency_shift", cause.service, window.end_ns, at_ns),
            kind="latency_shift",
            service=cause.service,
            operation="",
            at_ns=at_ns,
            arrival_ns=window.arrival_ns,
            observed=observed_ns,
            unit="ns",
            baseline=usual_ns,
            message=(
                f"{cause.service} takes {observed_ns / 1e6:.0f} ms {where}, usually {usual_ns / 1e6:.0f} ms;"
                f" most in {operation} (+{excess_ns / 1e6:.0f} ms a call)."
                f" It explains {cause.share:.0%} of the time lost in the system."
            ),
            trace_id=worst.tally.sample,
            impacted=cause.impacted,
            path=cause.path,
            replay_id=self._replay_id,
        )

    def _rate_finding(self, verdict: RateVerdict, window: WholeWindow) -> Finding:
        if verdict.kind == "error_rate":
            message = f"{verdict.observed:.1%} of requests fail ({verdict.count:.0f} in a minute), usually "
            message += f"{verdict.usual:.1%}"
        else:
            message = f"{verdict.observed:.2g} requests a second, usually {verdict.usual:.2g}"
        return Finding(
            finding_id=finding_id(verdict.kind, verdict.service, verdict.operation, window.end_ns),
            kind=verdict.kind,
            service=verdict.service,
            operation=verdict.operation,
            at_ns=window.start_ns,
            arrival_ns=window.arrival_ns,
            observed=verdict.observed,
            unit="ratio" if verdict.kind == "error_rate" else "1/s",
            baseline=verdict.usual,
            message=message,
            trace_id=verdict.sample,
            replay_id=self._replay_id,
        )

    def _dependency_finding(self, verdict: DependencyVerdict, window: WholeWindow) -> Finding:
        if verdict.kind == "new_dependency":
            message = f"{verdict.caller} calls {verdict.callee}, which it never did before"
        else:
            message = f"{verdict.caller} no longer calls {verdict.callee} (usually {verdict.usual:.2g} times a request)"
        return Finding(
            finding_id=finding_id(verdict.kind, verdict.caller, verdict.callee, window.end_ns),
            kind=verdict.kind,
            service=verdict.caller,
            operation="",
            at_ns=window.start_ns,
            arrival_ns=window.arrival_ns,
            observed=verdict.observed,
            unit="ratio",
            baseline=verdict.usual,
            message=message,
            trace_id=verdict.sample,
            labels={"callee": verdict.callee},
            replay_id=self._replay_id,
        )
