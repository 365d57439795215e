"""A live_api process for a test."""

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import uvicorn
from pydantic import SecretStr

from live_api.app import LiveApi as Application
from live_api.settings import LiveApiSettings
from quickstart.process import free_port
from tests.live_api.running import LiveApi
from tests.services import PostgresServer
from tracecore.settings import DatabaseSettings, KafkaSettings
from tracecore.topics import Topics


@pytest.fixture
def start_live_api(
    kafka_environment: dict[str, str], make_topics: Callable[..., Topics], tmp_path: Path
) -> Iterator[Callable[..., LiveApi]]:
    """``start_live_api(HEARTBEAT_S="1")`` creates the topics and starts a live_api that reads them."""
    make_topics(partitions=2)
    started: list[LiveApi] = []

    def start(**settings: str) -> LiveApi:
        environment = kafka_environment | {f"TRACEWATCH_LIVE_API_{name}": value for name, value in settings.items()}
        started.append(LiveApi(environment, free_port(), tmp_path / f"live_api-{len(started)}.log").start())
        return started[-1]

    yield start
    for live_api in started:
        live_api.stop()


@pytest.fixture
def live_api(start_live_api: Callable[..., LiveApi]) -> LiveApi:
    """A live_api with default settings."""
    return start_live_api()


@pytest.fixture(scope="module")
def history(postgres: PostgresServer, migrated_template: str) -> Iterator[str]:
    """The URL of a database for a module's tests: to make one takes longer than to ask it."""
    name = f"test_{uuid4().hex[:8]}"
    yield postgres.create_database(name, template=migrated_template)
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def over_history(history: str) -> Iterator[Application]:
    """The application over the module's history; its feeds are not connected."""
    live_api = application(history)
    live_api.database.open()
    yield live_api
    live_api.database.close()


@pytest.fixture(scope="module")
def history_url(over_history: Application) -> Iterator[str]:
    """That application on a port, for clients that are no Python."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(over_history.app, port=port, lifespan="off", log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
async def queries(over_history: Application) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that application, in this process."""
    transport = httpx.ASGITransport(over_history.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def application(database_url: str, **settings: Any) -> Application:
    """live_api over a database, not started."""
    where = DatabaseSettings(url=SecretStr(database_url))
    return Application(KafkaSettings(), where, LiveApiSettings(**settings))
