"""What a replay did, in words and figures."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a replay did to the history: traces by how they compare with before, and alert episodes with its id."""

    traces_new: int
    traces_amended: int
    traces_unchanged: int
    alerts: int


@dataclass(frozen=True, slots=True)
class Report:
    """The end of a replay."""

    replay_id: str
    name: str
    state: str
    records: int
    spans: int
    unreadable: int
    outcome: Outcome
    notified: bool
    stretch_s: float
    took_s: float

    def lines(self) -> list[str]:
        """For a terminal."""
        speed = f", {self.stretch_s / self.took_s:,.0f} times as fast as it was" if self.took_s > 0 else ""
        did = self.outcome
        lines = [
            f"replay {self.name} is {self.state} after {self.took_s:,.1f} s{speed}",
            f"  {self.records:,} records, {self.spans:,} spans",
            f"  {did.traces_new:,} traces new, {did.traces_amended:,} amended, {did.traces_unchanged:,} unchanged",
            f"  {did.alerts:,} alert{'' if did.alerts == 1 else 's'} raised by this stretch, stored with the replay"
            f" id {self.replay_id}; {'receivers were told' if self.notified else 'nobody was notified'}",
        ]
        if self.unreadable:
            lines.append(f"  {self.unreadable:,} records or spans could not be read and were passed over: see the log")
        return lines
