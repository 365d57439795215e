"""Which traces tail sampling keeps."""

import random

from stream.sampling import Sampler, SamplingRule, is_in_share
from tests.tracecore.builders import closed, order_spans, span
from tracecore.closed_trace import ClosedTrace


def fast(number: int, duration_ms: float = 10) -> ClosedTrace:
    return closed([span("GET /", trace=number, duration_ms=duration_ms)])


def test_without_sampling_everything_is_kept_and_says_so() -> None:
    assert Sampler(SamplingRule()).sampled_by(fast(1), is_anomalous=False, kept_by="") == "all"


def test_errors_anomalies_and_new_dependencies_are_kept_whatever_the_share() -> None:
    sampler = Sampler(SamplingRule(share=0.0))
    failed = closed([span("GET /", error=True)])
    assert sampler.sampled_by(failed, False, "") == "error"
    assert sampler.sampled_by(fast(2), True, "") == "anomaly"
    assert sampler.sampled_by(closed(order_spans(3)), False, "") == "new_dependency"
    assert sampler.sampled_by(closed(order_spans(4)), False, "") == ""


def test_what_was_kept_once_stays_kept_when_it_is_amended() -> None:
    assert Sampler(SamplingRule(share=0.0)).sampled_by(fast(1), False, "anomaly") == "anomaly"


def test_a_trace_far_slower_than_its_root_operation_usually_is_is_kept() -> None:
    sampler = Sampler(SamplingRule(share=0.0))
    for number in range(1, 201):
        sampler.sampled_by(fast(number, 10 + number % 5), False, "")
    assert sampler.sampled_by(fast(300, 12), False, "") == ""
    assert sampler.sampled_by(fast(301, 100), False, "") == "slow"


def test_the_share_is_of_the_trace_id_alone_and_of_about_its_size() -> None:
    randomness = random.Random(1)
    ids = [randomness.randbytes(16) for _ in range(10_000)]
    kept = {trace_id for trace_id in ids if is_in_share(trace_id, 0.1)}
    assert 850 < len(kept) < 1150
    # A larger share keeps what a smaller one keeps.
    assert kept <= {trace_id for trace_id in ids if is_in_share(trace_id, 0.2)}


def test_a_service_may_have_a_share_of_its_own() -> None:
    rule = SamplingRule(share=0.0, shares={"shop": 1.0})
    assert Sampler(rule).sampled_by(fast(1), False, "") == "all"
