"""Head sampling: which traces are recorded, decided once, at their root, and said to everyone after.

Ratios are consistent: every service that samples a trace by ratio compares the
same 56 random bits of its id, so a lower ratio's traces are a subset of a
higher's. The threshold travels in tracestate (``ot=th:...``) and lets the
pipeline weight what it counts. Source: OpenTelemetry specification, tracestate
probability sampling.
"""

import os
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
)
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes, AttributeValue

from tracewatch.errors import InvalidSetting
from tracewatch.headers import HeaderTraceState

_RANDOM_BITS = 56
_ALL = 1 << _RANDOM_BITS
_RANDOMNESS = re.compile(r"(?:^|;)rv:([0-9a-f]{14})(?:;|$)")


class Ratio(Sampler):
    """Samples a share of all traces, consistently by trace id. For roots: wrap it by ``parent_based``."""

    def __init__(self, ratio: float) -> None:
        if not 0.0 <= ratio <= 1.0:
            raise InvalidSetting("ratio", ratio, "a number from 0 to 1")
        self.ratio = ratio
        self._threshold = _ALL - round(ratio * _ALL)
        self._th = threshold_text(self._threshold)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Keep the trace if its randomness reaches the threshold."""
        state = _parents_state(parent_context)
        members = state.get("ot", "") if state else ""
        explicit = _RANDOMNESS.search(members)
        randomness = int(explicit[1], 16) if explicit else trace_id & (_ALL - 1)
        if randomness < self._threshold:
            return SamplingResult(Decision.DROP, None, _without_threshold(state))
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, with_threshold(state, self._th))

    def get_description(self) -> str:
        """As OpenTelemetry's own samplers describe themselves."""
        return f"TracewatchRatio{{{self.ratio}}}"


class RateLimited(Sampler):
    """Samples at most so many traces a second, with bursts of one second's worth. For roots."""

    def __init__(self, traces_per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        if not traces_per_second > 0:
            raise InvalidSetting("traces_per_second", traces_per_second, "a number above 0")
        self.traces_per_second = traces_per_second
        self._clock = clock
        self._burst = max(1.0, traces_per_second)
        self._tokens = self._burst
        self._filled_at = clock()
        self._lock = threading.Lock()

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Keep the trace if a token is left."""
        # The share that this keeps is not known when it decides: no threshold is written.
        state = _without_threshold(_parents_state(parent_context))
        if self._take():
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, state)
        return SamplingResult(Decision.DROP, None, state)

    def get_description(self) -> str:
        """As OpenTelemetry's own samplers describe themselves."""
        return f"TracewatchRateLimited{{{self.traces_per_second}}}"

    def _take(self) -> bool:
        with self._lock:
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self.traces_per_second)
            self._filled_at = now
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True


class Everything(ParentBased):
    """OpenTelemetry's default: every new trace, and what the parent says of others; at half of its cost."""

    def __init__(self) -> None:
        super().__init__(ALWAYS_ON)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Look at the parent once."""
        parent = trace.get_current_span(parent_context).get_span_context()
        if not parent.is_valid:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)
        if parent.trace_flags & 1:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes, parent.trace_state)
        return SamplingResult(Decision.DROP, None, parent.trace_state)


class PerRoute(Sampler):
    """Another sampler for each route. For roots.

    ``routes`` maps ``"/quotes/{symbol}"``, ``"/quotes/<symbol>"`` or
    ``"GET /quotes/{symbol}"`` to a sampler or a ratio; ``*`` matches anything. The
    first that matches the request's method and path decides, and ``otherwise``
    for the rest and for spans that are no requests.
    """

    def __init__(self, routes: Mapping[str, Sampler | float], otherwise: Sampler = ALWAYS_ON) -> None:
        self._routes = [
            (_route_expression(route), sampler if isinstance(sampler, Sampler) else Ratio(sampler))
            for route, sampler in routes.items()
        ]
        self._otherwise = otherwise

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Ask the route's sampler."""
        sampler = self._sampler_of(attributes or {})
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """As OpenTelemetry's own samplers describe themselves."""
        return f"TracewatchPerRoute{{{len(self._routes)} routes, {self._otherwise.get_description()}}}"

    def _sampler_of(self, attributes: Mapping[str, AttributeValue]) -> Sampler:
        path = attributes.get("url.path")
        if path is not None:
            request = f"{attributes.get('http.request.method', '')} {path}"
            for expression, sampler in self._routes:
                if expression.fullmatch(request):
                    return sampler
        return self._otherwise


class ErrorsToo(Sampler):
    """Records what ``sampler`` drops, unsampled, so that ``KeptErrors`` may still export it.

    Costs the recording of every trace, not its export.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Turn DROP into RECORD_ONLY."""
        result = self._sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if result.decision is Decision.DROP:
            return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)
        return result

    def get_description(self) -> str:
        """As OpenTelemetry's own samplers describe themselves."""
        return f"TracewatchErrorsToo{{{self._sampler.get_description()}}}"


def parent_based(root: Sampler) -> Sampler:
    """The parent's decision where there is one, ``root``'s for new traces."""
    return ParentBased(root)


def sampler_from_environment(environ: Mapping[str, str] = os.environ) -> Sampler | None:
    """The default, and OTEL_TRACES_SAMPLER's ratio samplers in their consistent form; None leaves others to the SDK.

    Raises InvalidSetting for an OTEL_TRACES_SAMPLER_ARG that is no ratio.
    """
    name = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if name in ("", "parentbased_always_on"):
        return Everything()
    if name not in ("traceidratio", "parentbased_traceidratio"):
        return None
    text = environ.get("OTEL_TRACES_SAMPLER_ARG") or "1.0"
    try:
        ratio = Ratio(float(text))
    except ValueError as error:
        raise InvalidSetting("OTEL_TRACES_SAMPLER_ARG", text, "a number from 0 to 1") from error
    return parent_based(ratio) if name.startswith("parentbased") else ratio


def threshold_text(threshold: int) -> str:
    """A 56-bit rejection threshold as ``th`` writes it: 14 hex digits, trailing zeros left out, ``0`` for none."""
    return f"{threshold:014x}".rstrip("0") or "0"


def with_threshold(state: TraceState | None, th: str) -> TraceState:
    """``state`` whose ``ot`` member says the threshold, and keeps its other sub-members."""
    kept = _kept_members(state)
    return (state if isinstance(state, HeaderTraceState) else HeaderTraceState.of(state or {})).update(
        "ot", ";".join([f"th:{th}", *kept])
    )


def _without_threshold(state: TraceState | None) -> TraceState | None:
    if not state or "th:" not in state.get("ot", ""):
        return state
    kept = _kept_members(state)
    headers_state = HeaderTraceState.of(state)
    return headers_state.update("ot", ";".join(kept)) if kept else headers_state.delete("ot")


def _kept_members(state: TraceState | None) -> list[str]:
    members = (state.get("ot", "") if state else "").split(";")
    return [member for member in members if member and not member.startswith("th:")]


def _parents_state(parent_context: Context | None) -> TraceState | None:
    context = trace.get_current_span(parent_context).get_span_context()
    return context.trace_state if context.is_valid else None


def _route_expression(route: str) -> re.Pattern[str]:
    method, space, path = route.rpartition(" ")
    parts = re.split(r"(\{[^}]*\}|<[^>]*>|\*)", path)
    expression = "".join(
        ".*" if part == "*" or part.startswith(("<path:", "{path:")) or part.endswith(":path}")
        else "[^/]+" if part[:1] in ("{", "<") and part
        else re.escape(part)
        for part in parts
    )  # fmt: skip
    return re.compile((re.escape(method) if space else "[^ ]*") + " " + expression)


__all__ = [
    "ALWAYS_OFF",
    "ALWAYS_ON",
    "ErrorsToo",
    "Everything",
    "PerRoute",
    "RateLimited",
    "Ratio",
    "parent_based",
    "sampler_from_environment",
    "threshold_text",
    "with_threshold",
]
