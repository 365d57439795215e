from stream.health import MAX_CLIMB, HealthKeeper
from tests.stream.detection.system import System


def test_service_that_does_its_work_has_a_hundred() -> None:
    reports = HealthKeeper().reports(System().window(), {}, [], {})
    assert {report.service: report.score for report in reports} == dict.fromkeys(
        ("cart", "gateway", "payment", "search", "store"), 100
    )


def test_failures_and_slowness_cost_points_and_say_why() -> None:
    system = System(failing={"cart": 1.0})
    reports = {r.service: r for r in HealthKeeper().reports(system.window(), {"store": 4.0}, [], {})}
    assert (reports["cart"].score, reports["cart"].reasons[0].reason) == (40, "errors")
    assert (reports["store"].score, reports["store"].reasons[0].points) == (80, 20)


def test_score_falls_at_once_and_climbs_slowly() -> None:
    system, keeper = System(failing={"cart": 1.0}), HealthKeeper()
    keeper.reports(system.window(), {}, [], {})
    system.failing.clear()
    scores = [next(r.score for r in keeper.reports(system.window(), {}, [], {}) if r.service == "cart") for _ in "123"]
    assert scores == [40 + MAX_CLIMB, 40 + 2 * MAX_CLIMB, 40 + 3 * MAX_CLIMB]


def test_critical_service_loses_more() -> None:
    system = System(failing={"cart": 1.0})
    (cart,) = [r for r in HealthKeeper().reports(system.window(), {}, [], {"cart": "critical"}) if r.service == "cart"]
    assert cart.score == 25
