"""Head sampling: consistent shares, limits, routes, and errors kept all the same."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, DEFAULT_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from tracewatch.errors import InvalidSetting
from tracewatch.headers import HeaderTraceState
from tracewatch.kept_errors import KeptErrors
from tracewatch.sampling import (
    ErrorsToo,
    Everything,
    PerRoute,
    RateLimited,
    Ratio,
    parent_based,
    sampler_from_environment,
    threshold_text,
    with_threshold,
)


def sampled(sampler: Any, trace_id: int, context: Any = None, **attributes: Any) -> bool:
    return sampler.should_sample(context, trace_id, "name", SpanKind.SERVER, attributes).decision.is_sampled()


def context_of(state: HeaderTraceState | None, *, is_sampled: bool) -> Any:
    span = SpanContext(1, 2, True, TraceFlags(int(is_sampled)), state)
    return trace.set_span_in_context(NonRecordingSpan(span))


def test_a_ratio_keeps_its_share() -> None:
    ids = random.Random(7)
    sampler = Ratio(0.1)
    kept = sum(sampled(sampler, ids.getrandbits(128)) for _ in range(20_000))
    assert 1800 < kept < 2200


@given(st.integers(1, 2**128 - 1), st.floats(0, 1), st.floats(0, 1))
def test_a_lower_ratios_traces_are_among_a_higher_ones(trace_id: int, one: float, other: float) -> None:
    lower, higher = sorted((one, other))
    assert sampled(Ratio(higher), trace_id) or not sampled(Ratio(lower), trace_id)
    assert sampled(Ratio(1.0), trace_id)
    assert not sampled(Ratio(0.0), trace_id)


@pytest.mark.parametrize("trace_id", [0, 1])
@pytest.mark.parametrize("is_remote", [False, True])
@pytest.mark.parametrize("flags", [0, 1, 2, 3])
@pytest.mark.parametrize("state", [None, HeaderTraceState.of({"a": "b"})])
def test_everything_decides_as_the_sdks_default(
    trace_id: int, is_remote: bool, flags: int, state: HeaderTraceState | None
) -> None:
    parent = SpanContext(trace_id, 2, is_remote, TraceFlags(flags), state)
    context = trace.set_span_in_context(NonRecordingSpan(parent), Context())
    for where in (context, Context()):
        ours, theirs = (each.should_sample(where, 7, "s", None, {"k": 1}) for each in (Everything(), DEFAULT_ON))
        assert (ours.decision, ours.attributes) == (theirs.decision, theirs.attributes)
        assert ours.trace_state == theirs.trace_state
    assert Everything().get_description() == DEFAULT_ON.get_description()


@pytest.mark.parametrize(
    ("ratio", "th"), [(1.0, "0"), (0.5, "8"), (0.25, "c"), (0.1, "e6666666666666"), (0.0001, "fff972474538ef")]
)
def test_the_threshold_is_written_as_the_specification_has_it(ratio: float, th: str) -> None:
    result = Ratio(ratio).should_sample(None, (1 << 56) - 1, "name")
    assert result.trace_state is not None
    assert result.trace_state["ot"] == f"th:{th}"


def test_other_state_is_kept_beside_the_threshold() -> None:
    state = HeaderTraceState.of({"vendor": "1", "ot": "th:8;rv:00000000000001"})
    assert dict(with_threshold(state, "c")) == {"ot": "th:c;rv:00000000000001", "vendor": "1"}


def test_explicit_randomness_comes_before_the_trace_id() -> None:
    low = context_of(HeaderTraceState.of({"ot": "rv:00000000000000"}), is_sampled=True)
    high = context_of(HeaderTraceState.of({"ot": "rv:ffffffffffffff"}), is_sampled=True)
    assert not sampled(Ratio(0.5), (1 << 56) - 1, low)
    assert sampled(Ratio(0.5), 1, high)
    dropped = Ratio(0.5).should_sample(context_of(HeaderTraceState.of({"ot": "th:0"}), is_sampled=True), 1, "name")
    assert dropped.trace_state == {}


def test_the_parents_decision_and_threshold_hold() -> None:
    sampler = parent_based(Ratio(0.0))
    state = HeaderTraceState.of({"ot": "th:8"})
    result = sampler.should_sample(context_of(state, is_sampled=True), 1, "name")
    assert result.decision.is_sampled()
    assert result.trace_state is state
    assert not sampled(parent_based(Ratio(1.0)), 1, context_of(None, is_sampled=False))


def test_a_rate_limit_lets_its_number_through() -> None:
    now = [100.0]
    sampler = RateLimited(10, clock=lambda: now[0])
    assert sum(sampled(sampler, number) for number in range(1, 100)) == 10
    now[0] += 0.5
    assert sum(sampled(sampler, number) for number in range(1, 100)) == 5
    now[0] += 60
    assert sum(sampled(sampler, number) for number in range(1, 100)) == 10


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/health", False),
        ("POST", "/health", False),
        ("GET", "/quotes/ACME", False),
        ("POST", "/quotes/ACME", True),
        ("GET", "/quotes/ACME/history", True),
        ("GET", "/files/a/b/c", False),
        ("GET", "/static/x.png", False),
        ("GET", "/", True),
    ],
)
def test_routes_have_their_own_samplers(method: str, path: str, expected: bool) -> None:
    sampler = PerRoute(
        {"/health": 0.0, "GET /quotes/{symbol}": ALWAYS_OFF, "/files/<path:name>": 0.0, "/static/*": 0.0},
        otherwise=ALWAYS_ON,
    )
    assert sampled(sampler, 1, **{"http.request.method": method, "url.path": path}) is expected


def test_spans_that_are_no_requests_go_to_the_rest() -> None:
    assert not sampled(PerRoute({"/health": 1.0}, otherwise=ALWAYS_OFF), 1)


def test_errors_are_kept_when_sampling_would_drop_them() -> None:
    kept: list[ReadableSpan] = []
    provider = TracerProvider(sampler=ErrorsToo(parent_based(Ratio(0.0))), shutdown_on_exit=False)
    provider.add_span_processor(KeptErrors(kept.append))
    tracer = provider.get_tracer("t")
    for outcome in (StatusCode.UNSET, StatusCode.ERROR):
        with tracer.start_as_current_span(f"root {outcome.name}") as root:
            assert not root.get_span_context().trace_flags.sampled
            with tracer.start_as_current_span("child"):
                pass
            root.set_status(Status(outcome))
    assert [span.name for span in kept] == ["child", "root ERROR"]
    provider.shutdown()


@pytest.mark.parametrize("name", ["traceidratio", "parentbased_traceidratio"])
def test_opentelemetrys_variables_choose_the_consistent_sampler(name: str) -> None:
    sampler = sampler_from_environment({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": "0.25"})
    assert sampler is not None
    assert "TracewatchRatio{0.25}" in sampler.get_description()


def test_other_samplers_are_opentelemetrys_and_a_wrong_ratio_names_its_variable() -> None:
    assert sampler_from_environment({"OTEL_TRACES_SAMPLER": "always_off"}) is None
    assert isinstance(sampler_from_environment({}), Everything)
    assert isinstance(sampler_from_environment({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}), Everything)
    for wrong in ("x", "1.5", "nan"):
        with pytest.raises(InvalidSetting, match="OTEL_TRACES_SAMPLER_ARG"):
            sampler_from_environment({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": wrong})
    with pytest.raises(InvalidSetting):
        RateLimited(0)


def test_thresholds_are_written_short() -> None:
    assert threshold_text(0) == "0"
    assert threshold_text(1) == "00000000000001"
