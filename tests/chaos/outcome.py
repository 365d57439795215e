"""What decides a run, and what came of it. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.books import AlertBalance, Balance, Books
from tests.chaos.deployment import Death
from tests.chaos.leaks import Bounds
from tests.chaos.sampling import Samples
from tests.chaos.schedule import Fault, Incident


@dataclass(frozen=True, slots=True)
class RunPlan:
    """All that decides a run."""

    seed: int
    duration_s: float
    spans_per_s: float
    faults: Sequence[Fault]
    incidents: Sequence[Incident]
    poison_per_s: float = 1.0
    streams: int = 2
    sinks: int = 1
    #: An alert is over after so long without evidence.
    resolve_after_s: float = 60.0
    sample_every_s: float = 15.0
    #: What may grow; None for runs too short to tell.
    bounds: Bounds | None = None


@dataclass(slots=True)
class Outcome:
    """What was counted."""

    plan: RunPlan
    books: Books
    balance: Balance
    alerts: AlertBalance
    dead_letters: Counter[int]
    other_letters: int
    totals: dict[str, int]
    window_differences: list[tuple[str, int, int, int]]
    deaths: list[Death]
    faults_done: int
    fault_failures: list[str]
    samples: Samples
    held: dict[str, tuple[int, int]]
    settled_after_s: float
