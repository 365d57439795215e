"""How well alerts name labelled faults. Pure.

An incident is a run of episodes on one service with gaps of at most two minutes. It is *named* if it overlaps a fault
of the same service, *explained* if it overlaps any fault, *false* otherwise. A minute after a fault still counts.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from replay.errors import SourceUnreadable

_MERGE_GAP_S = 120.0
_GRACE_S = 60.0


@dataclass(frozen=True, slots=True)
class Fault:
    """A labelled fault; Unix seconds."""

    service: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Raised:
    """An episode as far as scoring needs it; Unix seconds of event time."""

    service: str
    starts_s: float
    ends_s: float


@dataclass(frozen=True, slots=True)
class Score:
    """Recall over faults, precision over incidents."""

    faults: int
    recalled: int
    incidents: int
    named: int
    explained: int
    median_delay_s: float | None

    def line(self) -> str:
        """For a terminal."""
        delay = "" if self.median_delay_s is None else f", median delay {self.median_delay_s:.0f} s"
        return (
            f"{self.recalled} of {self.faults} faults recalled; of {self.incidents} incidents {self.named} name the"
            f" faulty service, {self.explained} overlap a fault, {self.incidents - self.explained} are false{delay}"
        )


def read_labels(path: Path) -> list[Fault]:
    """``{"faults": [{"service", "start_unix", "end_unix"}, ...]}``. Raises ``SourceUnreadable``."""
    try:
        faults = json.loads(path.read_text())["faults"]
        return [Fault(fault["service"], float(fault["start_unix"]), float(fault["end_unix"])) for fault in faults]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceUnreadable(f"{path}: no labels of faults ({error!r})") from None


def scored(faults: list[Fault], raised: list[Raised]) -> Score:
    """Score what was raised by what was wrong."""
    incidents = [incident for service in {r.service for r in raised} for incident in _incidents(service, raised)]
    named = sum(any(i.service == f.service and _overlap(i, f) for f in faults) for i in incidents)
    explained = sum(any(_overlap(i, f) for f in faults) for i in incidents)
    delays = []
    for fault in faults:
        starts = [i.starts_s for i in incidents if i.service == fault.service and _overlap(i, fault)]
        if starts:
            delays.append(max(0.0, min(starts) - fault.start_s))
    return Score(len(faults), len(delays), len(incidents), named, explained, median(delays) if delays else None)


def _incidents(service: str, raised: list[Raised]) -> list[Raised]:
    incidents: list[Raised] = []
    for one in sorted((r for r in raised if r.service == service), key=lambda r: r.starts_s):
        if incidents and one.starts_s - incidents[-1].ends_s <= _MERGE_GAP_S:
            last = incidents.pop()
            incidents.append(Raised(service, last.starts_s, max(last.ends_s, one.ends_s)))
        else:
            incidents.append(one)
    return incidents


def _overlap(incident: Raised, fault: Fault) -> bool:
    return incident.starts_s < fault.end_s + _GRACE_S and incident.ends_s > fault.start_s
