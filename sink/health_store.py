"""Health of services in PostgreSQL: a row a service and window."""

from collections.abc import Sequence

import msgspec
import psycopg

from sink.postgres import time_of
from tracecore.health import Health

_json = msgspec.json.Encoder()


def store_health(connection: psycopg.Connection, windows: Sequence[Health]) -> None:
    """Store health, within the caller's transaction; what is said later of a window replaces what was said before."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO service_health AS h (service, start_time, replay_id, score, reasons)"
            " VALUES (%s, %s, %s, %s, %s::text::jsonb) ON CONFLICT (service, start_time, replay_id)"
            " DO UPDATE SET score = EXCLUDED.score, reasons = EXCLUDED.reasons"
            " WHERE (h.score, h.reasons) IS DISTINCT FROM (EXCLUDED.score, EXCLUDED.reasons)",
            [
                (
                    window.service,
                    time_of(window.start_ns),
                    window.replay_id,
                    window.score,
                    _json.encode(window.reasons).decode(),
                )
                for window in windows
            ],
        )
