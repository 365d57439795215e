"""Results of back-tests, kept in PostgreSQL for the dashboard: the comparison, never the alerts as alerts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg

from replay.backtest import Difference, Episode
from replay.stretch import Stretch


@dataclass(frozen=True, slots=True)
class Result:
    """What a back-test found: of the rules in ``rules`` beside those in force. Scores are empty without labels."""

    backtest_id: str
    rules: str
    source: str
    stretch: Stretch
    compared: Difference
    tried_score: str = ""
    in_force_score: str = ""


async def keep(database_url: str, result: Result) -> None:
    """Store a result, in place of one of the same name. Raises ``psycopg.Error``."""
    episodes = [
        *_described("both", result.compared.both),
        *_described("tried", result.compared.only_first),
        *_described("in_force", result.compared.only_second),
    ]
    episodes.sort(key=lambda episode: (episode["starts_at_ns"], episode["under"]))
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True, connect_timeout=5) as connection:
        await connection.execute(
            """
            INSERT INTO backtests
                (backtest_id, rules, source, from_time, until_time, episodes, tried_score, in_force_score)
            VALUES (%s, %s, %s, to_timestamp(%s::float8), to_timestamp(%s::float8), %s::jsonb, %s, %s)
            ON CONFLICT (backtest_id) DO UPDATE
            SET episodes = excluded.episodes, tried_score = excluded.tried_score,
                in_force_score = excluded.in_force_score, finished_at = clock_timestamp()
            """,
            (
                result.backtest_id,
                result.rules,
                result.source,
                _seconds(result.stretch.from_ns),
                _seconds(result.stretch.until_ns),
                msgspec.json.encode(episodes).decode(),
                result.tried_score,
                result.in_force_score,
            ),
        )


def _described(under: str, episodes: Sequence[Episode]) -> list[dict[str, Any]]:
    return [
        {
            "under": under,
            "labels": episode.alert.labels,
            "summary": episode.alert.annotations.get("summary", ""),
            "starts_at_ns": episode.alert.starts_at_ns,
            "ends_at_ns": episode.ends_at_ns,
            "evidence": episode.alert.evidence,
        }
        for episode in episodes
    ]


def _seconds(time_ns: int | None) -> float | None:
    return None if time_ns is None else time_ns / 1e9
