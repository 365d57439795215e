"""A finding: something a detector saw and thinks a person may want to know. Alerting decides if they are told."""

from dataclasses import dataclass, field
from typing import Literal

FindingKind = Literal[
    "error",
    "slow_span",
    "latency_shift",
    "error_rate",
    "traffic_drop",
    "traffic_surge",
    "new_dependency",
    "vanished_dependency",
    "threshold",
    "slo_burn",
    "shed_trace",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen, where, against what.

    ``service`` and ``operation`` are what the finding blames; ``labels`` what else tells it apart from others
    (error type, caller). ``at_ns`` is event time, ``arrival_ns`` the broker's time of the evidence. ``observed`` and
    ``baseline`` share ``unit`` ("ns", "errors", "1/s", "ratio"); ``baseline`` is NaN-free: None where there is none.
    ``impacted`` are services that suffer from it, nearest first; ``path`` leads from the edge of the system to what is
    blamed. ``trace_id`` (hex) is a sample. ``finding_id`` is the same each time the same input is read again.
    """

    finding_id: str
    kind: FindingKind
    service: str
    operation: str
    at_ns: int
    arrival_ns: int
    observed: float
    unit: str
    baseline: float | None = None
    message: str = ""
    trace_id: str = ""
    span_id: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    impacted: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    replay_id: str = ""
