"""What is named, and what is not: a small system, observed for an hour."""

from dataclasses import replace

from stream.detection.judge import Judge
from stream.detection.knobs import Knobs, Tuning
from stream.detection.latency import LatencySettings
from tests.stream.detection.system import System
from tracecore.finding import Finding


def watched(system: System, windows: int, judge: Judge | None = None) -> tuple[Judge, list[Finding]]:
    judge = judge or Judge()
    return judge, [finding for _ in range(windows) for finding in judge.judge(system.window())]


def blamed(findings: list[Finding], kind: str) -> set[str]:
    return {finding.service for finding in findings if finding.kind == kind}


def test_an_hour_of_ordinary_traffic_finds_nothing() -> None:
    for seed in range(3):
        assert watched(System(seed=seed), 360)[1] == []


def test_slow_service_is_named_within_forty_seconds_and_its_callers_are_impacted() -> None:
    system = System()
    judge, _ = watched(system, 30)
    system.own_factor["store"] = 5
    _, findings = watched(system, 4, judge)
    assert blamed(findings, "latency_shift") == {"store"}
    assert (findings[0].impacted, findings[0].path) == (("cart", "gateway"), ("gateway", "cart", "store"))
    assert findings[0].trace_id


def test_slow_network_names_the_service_that_suffers_it_not_its_caller() -> None:
    system = System()
    judge, _ = watched(system, 30)
    system.gap_factor["payment"] = 50
    assert blamed(watched(system, 5, judge)[1], "latency_shift") == {"payment"}


def test_caller_whose_hops_are_all_slow_is_the_cause() -> None:
    system = System()
    judge, _ = watched(system, 30)
    system.gap_factor |= {"payment": 20, "cart": 20, "search": 20}
    system.own_factor["gateway"] = 5
    assert blamed(watched(system, 5, judge)[1], "latency_shift") == {"gateway"}


def test_a_hiccup_of_one_window_is_no_incident() -> None:
    system = System()
    judge, _ = watched(system, 30)
    system.own_factor["store"] = 10
    _, found = watched(system, 1, judge)
    system.own_factor.clear()
    assert found + watched(system, 10, judge)[1] == []


def test_slow_change_is_followed() -> None:
    system = System()
    judge, found = watched(system, 60)
    for step in range(360):
        system.own_factor["store"] = 1 + step / 360
        found += judge.judge(system.window())
    assert found == []


def test_cold_start_is_silent_even_if_everything_is_slow_from_the_first_window() -> None:
    assert watched(System(own_factor={"store": 50}, failing={"cart": 0.5}), 60)[1] == []


def test_traffic_that_falls_tenfold_over_an_evening_finds_nothing() -> None:
    system = System(rate=100)
    judge, found = watched(system, 60)
    for step in range(360):
        system.rate = 100 * 10 ** (-step / 360)
        found += judge.judge(system.window())
    assert found == []


def test_traffic_that_stops_at_the_edge_while_others_go_on_is_a_drop() -> None:
    system = System(rate=100, hops={"gateway": ("cart",), "other": ()})
    judge = Judge()
    other = System(rate=100, seed=2, hops={})

    def window() -> list[Finding]:
        mine, theirs = system.window(), other.window()
        for (service, name, kind), operation in theirs.operations.items():
            mine.operations[f"{service}-2", name, kind] = operation
        return judge.judge(mine)

    for _ in range(60):
        assert window() == []
    system.rate = 0
    found = [finding for _ in range(8) for finding in window()]
    assert {(finding.kind, finding.service) for finding in found} == {("traffic_drop", "gateway")}


def test_gap_of_ten_minutes_in_the_input_finds_nothing() -> None:
    system = System()
    judge, found = watched(system, 60)
    found += judge.judge(system.window(skipped=60))
    assert found + watched(system, 30, judge)[1] == []


def test_what_is_cold_after_a_gap_is_no_incident_and_what_stays_slow_is() -> None:
    system = System()
    judge, found = watched(system, 60)
    system.rate = 0
    found += watched(system, 15, judge)[1]
    system.rate, system.own_factor = 50.0, {"store": 10}
    found += watched(system, 3, judge)[1]
    warm = System(seed=2)
    warm.end_ns = system.end_ns
    assert found + watched(warm, 30, judge)[1] == []
    warm.own_factor = {"store": 10}
    assert blamed(watched(warm, 4, judge)[1], "latency_shift") == {"store"}


def test_missing_partition_is_no_drop_in_traffic() -> None:
    system = System()
    judge, found = watched(system, 60)
    system.rate = 5
    found += [finding for _ in range(10) for finding in judge.judge(system.window(is_whole=False))]
    assert found == []


def test_failing_requests_are_an_error_rate_where_they_fail() -> None:
    system = System()
    judge, _ = watched(system, 30)
    system.failing["payment"] = 0.3
    assert blamed(watched(system, 3, judge)[1], "error_rate") == {"payment"}


def test_failures_that_always_were_are_no_news() -> None:
    assert watched(System(failing={"payment": 0.1}), 180)[1] == []


def test_call_that_stops_is_a_vanished_dependency_of_its_caller() -> None:
    system = System()
    judge, _ = watched(system, 60)
    system.cut.add(("cart", "store"))
    _, findings = watched(system, 3, judge)
    assert {(f.service, f.labels["callee"]) for f in findings if f.kind == "vanished_dependency"} == {("cart", "store")}


def test_call_that_never_was_is_a_new_dependency_once() -> None:
    system = System(cut={("cart", "store")})
    judge, _ = watched(system, 70)
    system.cut.clear()
    _, findings = watched(system, 5, judge)
    assert [(f.kind, f.service, f.labels["callee"]) for f in findings] == [("new_dependency", "cart", "store")]


def test_service_with_knobs_of_its_own_is_judged_by_them_and_others_are_not() -> None:
    slower = Knobs(latency=replace(LatencySettings(), min_ratio=8))
    for service, named in (("store", set()), ("cart", {"store"})):
        judge = Judge()
        judge.tuning = Tuning(services={service: slower})
        system = System()
        watched(system, 30, judge)
        system.own_factor["store"] = 5
        assert blamed(watched(system, 5, judge)[1], "latency_shift") == named


def test_same_windows_give_the_same_findings() -> None:
    def ids() -> list[str]:
        system = System()
        judge, _ = watched(system, 30)
        system.own_factor["store"] = 5
        return [finding.finding_id for finding in watched(system, 6, judge)[1]]

    assert ids() == ids() != []
