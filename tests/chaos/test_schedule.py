"""What goes wrong is drawn from a seed, and nothing is forgotten."""

import pytest

from tests.chaos import schedule

ROOMS = ("stream-1", "stream-2", "sink-1", "live_api", "gateway")


def test_a_seed_gives_the_same_faults_and_another_seed_others() -> None:
    assert schedule.faults(7, 600, ROOMS) == schedule.faults(7, 600, ROOMS)
    assert schedule.faults(7, 600, ROOMS) != schedule.faults(8, 600, ROOMS)


@pytest.mark.parametrize("duration_s", [45, 60, 600])
@pytest.mark.parametrize("seed", range(5))
def test_everything_fails_at_least_once_while_the_load_lasts(seed: int, duration_s: float) -> None:
    faults = schedule.faults(seed, duration_s, ROOMS)
    kinds = {(fault.kind, fault.target) for fault in faults if fault.kind != "freeze"}
    assert kinds == {
        *(("kill", room) for room in (*ROOMS, "broker")),
        ("immediate_restart", "postgres"),
        ("clock_step", "producer"),
    }
    assert any(fault.kind == "freeze" for fault in faults)
    assert {fault.step_s for fault in faults} == {-60.0, 0.0, 60.0}
    assert all(0 < fault.at_s < duration_s for fault in faults)
    assert list(faults) == sorted(faults, key=lambda fault: fault.at_s)


def test_workers_are_restarted_in_turn() -> None:
    planned = schedule.rolling_restarts(300, 60, ("a", "b", "c"))
    assert [(fault.at_s, fault.target) for fault in planned] == [(60, "a"), (120, "b"), (180, "c"), (240, "a")]


def test_incidents_end_before_the_load_does_and_each_has_an_operation_of_its_own() -> None:
    planned = schedule.incidents(60, 20)
    assert len({incident.operation for incident in planned}) == len(planned) == 2
    assert all(incident.at_s + schedule.INCIDENT_S < 60 for incident in planned)


def test_faults_near_a_time_are_those_that_were_on_or_not_far() -> None:
    fault = schedule.Fault(100.0, "freeze", "sink-1", 20.0)
    assert schedule.faults_near([fault], 130.0) == [fault]
    assert schedule.faults_near([fault], 84.0) == []
