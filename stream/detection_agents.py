"""Detection at the edge: the hooks that the span agent calls, a set of them for live spans and for each replay."""

from collections.abc import Sequence
from functools import lru_cache

import faust
import numpy as np

from stream.alerting.settings import AlertingSettings
from stream.detection.answered_calls import AnsweredCalls
from stream.detection.error_spans import ErrorSpans
from stream.detection.round import encoded_rounds
from stream.detection.slow_spans import SlowSpans
from stream.hooks import Hooks
from stream.rules_source import RulesSource
from tracecore.batch_analysis import ClosedTraces
from tracecore.closed_trace import ClosedTrace
from tracecore.finding import Finding
from tracecore.otlp import resource_attributes
from tracecore.redaction import BUILT_IN, Redaction
from tracecore.settings import KafkaSettings, RedactionSettings, read
from tracecore.span import Resource, Span
from tracecore.topics import Topics
from tracecore.window import Window

#: How often the rules file is looked at.
RELOAD_S = 1.0


class Judges:
    """All that judges one stream of spans, as the three hooks of the span agent."""

    def __init__(self, rules: RulesSource, replay_id: str = "", redaction: Redaction = BUILT_IN) -> None:
        self._replay_id = replay_id
        self._errors = ErrorSpans(replay_id, redaction)
        self._slow = SlowSpans(lambda service: rules.book.tuning.of(service).slow_spans, replay_id)
        self._answered = AnsweredCalls()
        self._criticality: dict[str, str] = {}

    def on_spans(self, spans: Sequence[Span], arrival_ns: int, partition: int) -> list[Finding]:
        """Error spans, at once."""
        return self._errors.on_spans(spans, arrival_ns, partition)

    def on_trace(self, closed: ClosedTrace) -> list[Finding]:
        """Failed calls that nobody answered, and slow spans."""
        return self.on_traces([closed]).get(0, [])

    def on_traces(self, closed: Sequence[ClosedTrace]) -> dict[int, list[Finding]]:
        """``on_trace`` of each, in their order: by its place, if there are findings in it."""
        self._answered.learn_all(closed)
        self._learn_criticality(closed)
        found = self._slow.on_traces(closed)
        for place in _with_errors(closed):
            if errors := self._errors.on_trace(closed[place]):
                found[place] = [*errors, *found.get(place, [])]
        return found

    def _learn_criticality(self, closed: Sequence[ClosedTrace]) -> None:
        # A few objects, hundreds of times: hardly ever does one of them say how critical its service is.
        is_together = isinstance(closed, ClosedTraces)
        resources = closed.resources if is_together else {one for trace in closed for one in trace.resources}
        telling = {resource: criticality for resource in resources if (criticality := _criticality(resource))}
        if telling:
            for table in closed.resources_of() if is_together else (trace.resources for trace in closed):
                for resource in table:
                    if criticality := telling.get(resource):
                        self._criticality[resource.service] = criticality

    def on_windows(
        self, windows: Sequence[Window], closed_until_ns: int, arrival_ns: int, partition: int, partitions: int
    ) -> list[bytes]:
        """The partition's round, for the one who judges the whole."""
        own = self._answered.without(list(windows))
        return encoded_rounds(
            own, closed_until_ns, arrival_ns, partition, partitions, self._replay_id, self._criticality
        )


def _with_errors(closed: Sequence[ClosedTrace]) -> Sequence[int]:
    """Which traces may have spans that failed."""
    if not isinstance(closed, ClosedTraces):
        return range(len(closed))
    places: list[int] = np.flatnonzero(closed.needs_repair | (closed.error_counts > 0)).tolist()
    return places


@lru_cache(maxsize=4096)
def _criticality(resource: Resource) -> str:
    value = resource_attributes(resource).get("service.criticality")
    return value if isinstance(value, str) else ""


class Detection:
    """The hooks of live spans, and those of each replay, made as they are first asked for."""

    def __init__(self, rules: RulesSource, redaction: Redaction) -> None:
        self._rules = rules
        self._redaction = redaction
        self._hooks: dict[str, Hooks] = {}

    def hooks_for(self, replay_id: str = "") -> Hooks:
        """The hooks that judge live spans (""), or those of a replay: their baselines never mix."""
        hooks = self._hooks.get(replay_id)
        if hooks is None:
            judges = Judges(self._rules, replay_id, self._redaction)
            hooks = self._hooks[replay_id] = Hooks(judges, judges, judges)
        return hooks

    async def follow_rules(self) -> None:
        """Take changed rules up."""
        self._rules.has_changed()


def attach(app: faust.App, topics: Topics, kafka: KafkaSettings) -> Detection:
    """Make detection's hooks for ``app``. Raises ``TracewatchError`` if the rules, or what is to be masked, are bad."""
    detection = Detection(RulesSource(read(AlertingSettings).alert_rules), read(RedactionSettings).redaction)
    app.timer(RELOAD_S, name="detection-rules")(detection.follow_rules)
    return detection
