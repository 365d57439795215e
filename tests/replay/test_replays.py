"""Replays as people run them: ``python -m replay`` on Kafka, a stream worker and a sink, all real."""

import time
from collections.abc import Iterator

import pytest

from tests.replay.deployment import Deployment, deployment, differences
from tests.services import KafkaServer, PostgresServer
from tests.sink.harness import eventually
from tests.stream.workload import Load, load

TRACES = 240
Rows = dict[str, list[str]]


@pytest.fixture(scope="module")
def made(
    kafka: KafkaServer, postgres: PostgresServer, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with deployment(kafka, postgres, migrated_template, tmp_path_factory.mktemp("replay")) as running:
        yield running


@pytest.fixture(scope="module")
def lived(made: Deployment) -> Rows:
    """What live assembly made of the spans that stand in the topic of spans: checksums by table."""
    sent: Load = load(
        traces=TRACES, spans_per_trace=5, partitions=2, seed=8, start_ns=time.time_ns(), spans_per_record=20
    )
    with made.live_worker():
        made.send(sent.records)
        made.await_traces(TRACES)
        # The last windows close when their grace is over.
        eventually(
            lambda: made.count("SELECT coalesce(sum(spans), 0) FROM operation_windows"),
            lambda spans: spans >= TRACES * 5,
            timeout_s=60,
        )
    return made.derived()


def test_a_backfill_gives_what_live_assembly_gave(made: Deployment, lived: Rows) -> None:
    made.forget_history()
    said = made.replay("run", "--name", "backfill")
    assert f"{TRACES} traces new, 0 amended, 0 unchanged" in said, said
    assert not differences(made.derived(), lived)
    again = made.replay("run")
    assert f"0 traces new, 0 amended, {TRACES} unchanged" in again
    assert not differences(made.derived(), lived)
