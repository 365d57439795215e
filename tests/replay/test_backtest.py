"""Episodes of back-tests, and how two back-tests differ."""

from replay.backtest import Episode, difference, episodes_of
from tracecore.alert import Alert, AlertStatus, Evidence

S = 1_000_000_000


def event(name: str, starts_s: int, status: AlertStatus = "firing", ends_s: int | None = None) -> Alert:
    labels = {"alertname": name, "service": "web", "severity": "warning"}
    ends_ns = None if ends_s is None else ends_s * S
    evidence = Evidence(1.0, None, "errors", 1, ())
    return Alert(name, status, labels, {}, starts_s * S, starts_s * S, ends_ns, 0, evidence)


def episode(name: str, starts_s: int, ends_s: int | None) -> Episode:
    return Episode(event(name, starts_s), None if ends_s is None else ends_s * S)


def test_the_events_of_an_alert_are_one_episode_as_it_fired_first() -> None:
    events = [event("b", 20), event("a", 10), event("a", 10), event("a", 10, "resolved", 15)]
    assert episodes_of(events) == [episode("a", 10, 15), episode("b", 20, None)]


def test_an_alert_that_fires_again_later_is_another_episode() -> None:
    events = [event("a", 10), event("a", 10, "resolved", 15), event("a", 30)]
    assert episodes_of(events) == [episode("a", 10, 15), episode("a", 30, None)]


def test_episodes_that_overlap_are_the_same_though_they_start_apart() -> None:
    tried, in_force = [episode("a", 12, 40)], [episode("a", 10, 30)]
    assert difference(tried, in_force).both == tuple(tried)


def test_what_only_one_of_two_raised_is_told_apart() -> None:
    tried = [episode("a", 10, 20), episode("b", 10, None)]
    in_force = [episode("a", 50, 60), episode("b", 500, None)]
    compared = difference(tried, in_force)
    assert compared.only_first == (tried[0],)
    assert compared.both == (tried[1],)
    assert compared.only_second == (in_force[0],)


def test_each_episode_has_at_most_one_twin() -> None:
    tried, in_force = [episode("a", 10, 100)], [episode("a", 10, 20), episode("a", 50, 60)]
    compared = difference(tried, in_force)
    assert (len(compared.both), compared.only_second) == (1, (in_force[1],))
