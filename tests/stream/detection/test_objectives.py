from stream.detection.objectives import Objective, Objectives, Threshold
from tests.stream.detection.system import MS, System
from tracecore.finding import Finding


def judged(objectives: Objectives, system: System, windows: int) -> list[Finding]:
    return [finding for _ in range(windows) for finding in objectives.judge(system.window())]


def test_threshold_is_crossed_only_once_its_time_is_full() -> None:
    objectives = Objectives()
    objectives.thresholds = [Threshold("StoreSlow", "store", "p99", 10 * MS)]
    system = System()
    assert judged(objectives, system, 5) == []
    (finding,) = judged(objectives, system, 1)
    assert (finding.kind, finding.service, finding.labels["rule"]) == ("threshold", "store", "StoreSlow")
    assert finding.observed > 10 * MS


def test_lower_threshold_sees_silence() -> None:
    objectives = Objectives()
    objectives.thresholds = [Threshold("Empty", "gateway", "request_rate", 0.1, is_upper=False)]
    system = System()
    assert judged(objectives, system, 10) == []
    system.rate = 0
    assert judged(objectives, system, 6)


def test_objective_burns_when_failures_are_many_times_the_budget_and_not_when_they_keep_to_it() -> None:
    objectives = Objectives()
    objectives.objectives = [Objective("PaymentWorks", "payment", 0.99)]
    system = System(failing={"payment": 0.005})
    assert judged(objectives, system, 60) == []
    system.failing["payment"] = 0.5
    found = judged(objectives, system, 40)
    assert {(finding.kind, finding.service) for finding in found} == {("slo_burn", "payment")}


def test_objective_no_longer_burns_half_an_hour_after_the_failures_ended() -> None:
    objectives = Objectives()
    objectives.objectives = [Objective("PaymentWorks", "payment", 0.99)]
    system = System(failing={"payment": 0.5})
    judged(objectives, system, 30)
    system.failing.clear()
    assert judged(objectives, system, 20)
    judged(objectives, system, 160)
    assert judged(objectives, system, 10) == []
