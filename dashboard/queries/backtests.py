"""Replays and back-tests: what was repeated, and what came of it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from dashboard.queries.query import Query, Row, query

Under = Literal["both", "tried", "in_force"]

_NEWEST: Final = 20


@dataclass(frozen=True, slots=True)
class TriedAlert:
    """An alert of a back-test: raised ``under`` the rules that were tried, those in force, or both."""

    under: Under
    labels: Mapping[str, str]
    summary: str
    starts_at_ns: int
    ends_at_ns: int | None
    observed: float | None
    baseline: float | None
    unit: str


@dataclass(frozen=True, slots=True)
class Backtest:
    """A back-test that has ended; scores are empty where no labelled faults were given."""

    backtest_id: str
    rules: str
    source: str
    from_time: datetime | None
    until_time: datetime | None
    finished_at: datetime
    tried_score: str
    in_force_score: str
    alerts: tuple[TriedAlert, ...]

    def count(self, under: Under) -> int:
        """How many alerts only these rules raise, or both."""
        return sum(alert.under == under for alert in self.alerts)


def replays() -> Query:
    """Replays, newest first."""
    return query("SELECT * FROM replays ORDER BY started_at DESC LIMIT 50")


def backtests() -> Query:
    """Back-tests, newest first."""
    return query("SELECT * FROM backtests ORDER BY finished_at DESC LIMIT %(newest)s", newest=_NEWEST)


def backtests_of(rows: Iterable[Row]) -> list[Backtest]:
    """Rows of ``backtests`` with their alerts."""
    return [
        Backtest(
            row["backtest_id"],
            row["rules"],
            row["source"],
            row["from_time"],
            row["until_time"],
            row["finished_at"],
            row["tried_score"],
            row["in_force_score"],
            tuple(map(_alert, _list(row["episodes"]))),
        )
        for row in rows
    ]


def _alert(episode: Mapping[str, Any]) -> TriedAlert:
    evidence = episode.get("evidence") or {}
    return TriedAlert(
        episode["under"],
        {str(name): str(value) for name, value in (episode.get("labels") or {}).items()},
        str(episode.get("summary") or ""),
        int(episode["starts_at_ns"]),
        episode.get("ends_at_ns"),
        evidence.get("observed"),
        evidence.get("baseline"),
        str(evidence.get("unit") or ""),
    )


def _list(value: Any) -> list[Mapping[str, Any]]:
    loaded = json.loads(value) if isinstance(value, str) else value
    return list(loaded or ())
