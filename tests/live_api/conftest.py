"""A live_api process for a test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quickstart.process import free_port
from tests.live_api.running import LiveApi
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
