"""The health of a service in a window: 0 (down) to 100 (well), and what cost points."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HealthReason:
    """Something that costs points; ``detail`` is for a person."""

    reason: str
    points: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """One service in the window that starts at ``start_ns``. Reasons stand largest first."""

    service: str
    start_ns: int
    score: int
    reasons: tuple[HealthReason, ...]
    replay_id: str = ""
