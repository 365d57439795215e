"""Days of a system that does the same thing at the same hour every day."""

from stream.detection.hour_of_day import MIN_DAYS, HourProfile, HourProfiles
from stream.detection.judge import Judge
from tests.stream.detection.system import System
from tracecore.finding import Finding
from tracecore.window import WINDOW_NS

MINUTE_NS = 60 * 1_000_000_000
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS


def learned(*days: float, hour: int = 2) -> HourProfile:
    """A profile that had these levels at an hour, one a day, from day 100 on."""
    profile = HourProfile()
    for number, level in enumerate(days, 100):
        start_ns = number * DAY_NS + hour * HOUR_NS
        for minute in range(0, 60, 2):
            profile.learn(start_ns + minute * MINUTE_NS + MINUTE_NS, level * 10, 10)
        profile.learn(start_ns + HOUR_NS, 0, 0)
    return profile


def at(day: int, hour: float) -> int:
    return int(day * DAY_NS + hour * HOUR_NS)


def test_an_hour_is_known_after_two_days_and_today_does_not_count() -> None:
    assert learned(5.0).usual(at(101, 2.5)) is None
    assert learned(5.0, 5.0).usual(at(101, 2.5)) is None
    assert learned(5.0, 5.0).usual(at(102, 2.5)) == 5.0


def test_other_hours_are_not_known_but_the_minutes_around_it_are() -> None:
    profile = learned(5.0, 5.0)
    assert [profile.usual(at(102, hour)) for hour in (1.5, 1.9, 2.5, 3.1, 3.5)] == [None, 5.0, 5.0, 5.0, None]


def test_one_bad_day_of_three_moves_nothing() -> None:
    assert learned(5.0, 900.0, 5.0).usual(at(103, 2.5)) == 5.0


def test_highest_ten_minutes_of_the_hour_count() -> None:
    profile = HourProfile()
    for day in (100, 101):
        for minute in range(60):
            profile.learn(at(day, 2) + minute * MINUTE_NS, 90.0 if 20 <= minute < 30 else 10.0, 10)
        profile.learn(at(day, 3), 0, 0)
    assert profile.usual(at(102, 2.5)) == 9.0


def test_what_is_older_than_a_week_is_forgotten() -> None:
    assert learned(5.0, 5.0).usual(at(105, 2.5)) == 5.0
    assert learned(5.0, 5.0).usual(at(110, 2.5)) is None


def test_profile_goes_on_where_it_was_stored() -> None:
    profiles = HourProfiles()
    profile = profiles.of("latency", "cart", "op")
    for day in (100, 101):
        profile.learn(at(day, 2.1), 50, 10)
        profile.learn(at(day, 2.5), 0, 0)
    stored = profiles.changed(10)
    assert list(stored) == ["latency\x1fcart\x1fop"]
    assert profiles.changed(10) == {}
    successor = HourProfiles()
    successor.restore(stored)
    assert successor.of("latency", "cart", "op").usual(at(102, 2.2)) == 5.0


def nightly(judge: Judge, *, days: int, is_night: str) -> list[list[Finding]]:
    """Findings by day. At two in the morning, for a quarter of an hour, the system is as ``is_night`` says."""
    system = System(rate=60)
    found: list[list[Finding]] = []
    for day in range(100, 100 + days):
        # An hour before and half an hour after tell the day; the rest of it would only take time.
        system.end_ns = at(day, 1) // WINDOW_NS * WINDOW_NS
        found.append([])
        for window in range(9 * 60):
            night = 360 <= window < 450
            system.own_factor = {"store": 8.0} if night and is_night == "slow" else {}
            system.failing = {"payment": 0.4} if night and is_night == "failing" else {}
            system.rate = {"busy": 600.0, "empty": 3.0}.get(is_night, 60.0) if night else 60.0
            found[-1] += judge.judge(system.window())
    return found


def test_batch_that_slows_the_store_every_night_is_news_until_days_were_seen() -> None:
    found = nightly(Judge(), days=MIN_DAYS + 2, is_night="slow")
    assert [bool(day) for day in found] == [True] * MIN_DAYS + [False] * 2


def test_rush_every_night_is_news_until_days_were_seen() -> None:
    found = nightly(Judge(), days=MIN_DAYS + 1, is_night="busy")
    assert [{finding.kind for finding in day} for day in found] == [{"traffic_surge"}] * MIN_DAYS + [set()]


def test_traffic_that_all_but_stops_every_night_is_news_until_days_were_seen() -> None:
    found = nightly(Judge(), days=MIN_DAYS + 1, is_night="empty")
    assert [{finding.kind for finding in day} for day in found] == [{"traffic_drop"}] * MIN_DAYS + [set()]


def test_failures_of_every_night_are_news_until_days_were_seen() -> None:
    found = nightly(Judge(), days=MIN_DAYS + 1, is_night="failing")
    assert [{finding.kind for finding in day} for day in found] == [{"error_rate"}] * MIN_DAYS + [set()]


def test_what_is_far_slower_than_the_hour_ever_was_is_still_named() -> None:
    judge = Judge()
    nightly(judge, days=MIN_DAYS + 1, is_night="slow")
    system = System(rate=60, own_factor={"store": 8.0})
    system.end_ns = at(100 + MIN_DAYS + 1, 2) // WINDOW_NS * WINDOW_NS
    assert [finding for _ in range(20) for finding in judge.judge(system.window())] == []
    system.own_factor = {"store": 80.0}
    found = [finding for _ in range(6) for finding in judge.judge(system.window())]
    assert {(finding.kind, finding.service) for finding in found} == {("latency_shift", "store")}
