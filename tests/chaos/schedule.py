"""What goes wrong, and when: drawn from a seed, so that a run can be had again. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

FaultKind = Literal["kill", "restart", "immediate_restart", "freeze", "clock_step"]

#: Everything that can go wrong goes wrong once in so long, in an order of its own each time.
ROUND_S: Final = 75.0
#: The first seconds are left alone, so that a fault meets a pipeline that works.
QUIET_S: Final = 5.0
FREEZE_S: Final = 20.0
CLOCK_STEP_S: Final = 60.0
#: Errors of one operation come for so long; each such incident is to be one alert.
INCIDENT_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class Fault:
    """``target`` fails at ``at_s`` of the load, and is itself again ``lasts_s`` later.

    "kill" is SIGKILL, "restart" SIGTERM, "immediate_restart" PostgreSQL's own immediate shutdown, "freeze" SIGSTOP;
    "clock_step" sets the clock of the one producer by ``step_s`` for so long.
    """

    at_s: float
    kind: FaultKind
    target: str
    lasts_s: float
    step_s: float = 0.0

    def __str__(self) -> str:
        step = f" {self.step_s:+.0f} s" if self.step_s else ""
        return f"{self.at_s:6.1f} s  {self.kind.replace('_', ' ')} {self.target}{step}, for {self.lasts_s:.1f} s"


@dataclass(frozen=True, slots=True)
class Incident:
    """From ``at_s`` of the load on, for ``INCIDENT_S``, an operation that is only there for it fails."""

    number: int
    at_s: float

    @property
    def operation(self) -> str:
        """The operation that fails: no other incident has it."""
        return f"incident-{self.number}"


def faults(seed: int, duration_s: float, rooms: Sequence[str]) -> tuple[Fault, ...]:
    """The faults of a run, in order. Of every round, however short: each room and the broker are killed,

    PostgreSQL is restarted, somebody is frozen, and one producer's clock is set on and back.
    """
    pick = random.Random(seed)
    rounds = max(1, round((duration_s - QUIET_S) / ROUND_S))
    length_s = (duration_s - QUIET_S) / rounds
    frozen = [*rooms, "broker", "postgres"]
    pick.shuffle(frozen)
    drawn: list[Fault] = []
    for number in range(rounds):
        deck = _deck(pick, rooms, frozen[number % len(frozen)], length_s)
        begins_s = QUIET_S + number * length_s
        gap_s = length_s / len(deck)
        for place, (kind, target, lasts_s, step_s) in enumerate(deck):
            at_s = begins_s + gap_s * (place + pick.uniform(0.0, 0.6))
            drawn.append(Fault(round(at_s, 2), kind, target, round(lasts_s, 2), step_s))
    return tuple(drawn)


def rolling_restarts(duration_s: float, every_s: float, workers: Sequence[str]) -> tuple[Fault, ...]:
    """One worker after the other is ended in order and started again, for as long as the load lasts."""
    times = range(1, int(duration_s // every_s))
    return tuple(Fault(n * every_s, "restart", workers[(n - 1) % len(workers)], 1.0) for n in times)


def incidents(duration_s: float, every_s: float) -> tuple[Incident, ...]:
    """Incidents spread over the run; the last ends before the load does."""
    count = max(1, int((duration_s - QUIET_S - INCIDENT_S) // every_s))
    return tuple(Incident(number, QUIET_S + number * every_s) for number in range(count))


def faults_near(planned: Sequence[Fault], at_s: float, within_s: float = 15.0) -> list[Fault]:
    """Faults that were on at ``at_s``, or began or ended not far from it."""
    return [f for f in planned if f.at_s - within_s <= at_s <= f.at_s + f.lasts_s + within_s]


def _deck(
    pick: random.Random, rooms: Sequence[str], frozen: str, length_s: float
) -> list[tuple[FaultKind, str, float, float]]:
    forwards = pick.choice((CLOCK_STEP_S, -CLOCK_STEP_S))
    step_lasts_s = length_s / 6
    deck: list[tuple[FaultKind, str, float, float]] = [
        *(("kill", room, pick.uniform(0.5, 4.0), 0.0) for room in rooms),
        ("kill", "broker", pick.uniform(0.5, 5.0), 0.0),
        ("immediate_restart", "postgres", pick.uniform(0.2, 3.0), 0.0),
        ("freeze", frozen, FREEZE_S, 0.0),
        ("clock_step", "producer", step_lasts_s, forwards),
        ("clock_step", "producer", step_lasts_s, -forwards),
    ]
    pick.shuffle(deck)
    return deck
