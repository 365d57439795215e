"""Python calls Go calls Python: one trace, whichever language its services are written in."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from quickstart import plan
from quickstart.databases import Databases
from quickstart.process import free_port
from quickstart.program import Program, PythonModule
from tests.conftest import environment_of
from tests.services import KafkaServer, PostgresServer
from tracecore.topics import Topics

SERVICES = ("network", "yahoo_finance_proxy", "api-service")


@pytest.fixture
def history_of_the_shop(
    kafka: KafkaServer, topics: Topics, postgres: PostgresServer, database: str, tmp_path: Path
) -> Iterator[str]:
    """The URL of a history into which the shop is traced: its api-service in Go, the rest in Python."""
    if plan.go_program("api-service") is None:
        pytest.skip("the shop's Go services are not built: make .venv/.go-shop, with Go installed")
    environment = {**environment_of(kafka, topics), "TRACEWATCH_KAFKA_PARTITIONS": "2"}
    ports = {name: free_port() for name in ("stream", "sink", "live_api", "dashboard", "gateway")}
    stream, sink, *_ = plan.rooms(environment, Databases(database, database, ""), ports, tmp_path)
    shop_ports = {name.replace("-", "_"): free_port() for name in SERVICES}
    prices = f"prices_{uuid4().hex[:8]}"
    urls = plan.shop_urls(shop_ports)
    *services, _ = plan.shop(environment, urls, postgres.create_database(prices), tmp_path, 4)
    scheduler = PythonModule(
        "quickstart.shop.scheduler",
        *("--api-url", urls["api-service"], "--proxy-url", urls["yahoo_finance_proxy"], "--rate", "10"),
        title="python-scheduler",
        environment=environment,
        is_ready=lambda: True,
        run_dir=tmp_path,
    )
    started: list[Program] = []
    try:
        for program in (stream, sink, *services, scheduler):
            started.append(program)
            program.start()
        yield database
    finally:
        for program in reversed(started):
            program.close()
        postgres.drop_database(prices)


def test_a_trace_goes_from_python_through_go_to_python(history_of_the_shop: str) -> None:
    assert chain_of_a_quote(history_of_the_shop) == [
        ("scheduler", "refresh_quote"),
        ("scheduler", "GET"),
        ("api-service", "GET /api/quotes/{symbol}"),
        ("api-service", "GET"),
        ("yahoo_finance_proxy", "GET /quote/<symbol>"),
        ("yahoo_finance_proxy", "parse_price"),
    ]


def chain_of_a_quote(database: str) -> list[tuple[Any, ...]]:
    """(service, operation) from a root down to the price's parsing, along the parents as sent; fails after 60 s."""
    query = """
        WITH RECURSIVE chain AS (
            SELECT trace_id, span_id, parent_span_id, service, operation, 0 AS height FROM service_traces
            WHERE trace_id = (
                SELECT trace_id FROM traces
                WHERE root_operation = 'refresh_quote' AND is_complete AND 'yahoo_finance_proxy' = ANY(services) LIMIT 1
            ) AND operation = 'parse_price'
            UNION ALL
            SELECT up.trace_id, up.span_id, up.parent_span_id, up.service, up.operation, height + 1
            FROM chain JOIN service_traces up ON up.trace_id = chain.trace_id AND up.span_id = chain.parent_span_id
        )
        SELECT service, operation FROM chain ORDER BY height DESC
    """
    deadline = time.monotonic() + 60
    with psycopg.connect(database, autocommit=True) as connection:
        while not (rows := connection.execute(query).fetchall()):
            assert time.monotonic() < deadline, "no trace of a quote was stored within 60 s"
            time.sleep(0.2)
    return rows
