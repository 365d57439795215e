"""Replays as people run them: ``python -m replay`` on Kafka, a stream worker and a sink, all real."""

import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psutil
import pytest

from replay.records import POSITION_HEADER
from tests.replay.deployment import Deployment, deployment, differences, ended
from tests.services import KafkaServer, PostgresServer
from tests.sink.harness import eventually
from tests.stream.workload import Load, load
from tests.tracecore.test_jaeger_json import jaeger, one

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


def test_a_replay_that_is_killed_and_resumed_sends_nothing_twice_and_gives_the_same(
    made: Deployment, lived: Rows
) -> None:
    made.forget_history()
    made.another_unfinished()  # as long as one is, a replay that is done leaves the topic as it is
    killed = made.start_replay("run", "--name", "killed", "--spans-per-s", "200")
    eventually(lambda: made.count("SELECT coalesce(max(spans), 0) FROM replays WHERE name = 'killed'"), bool, 90)
    ended(killed, signal.SIGKILL)
    assert "interrupted" in made.replay("status", "killed")

    said = made.replay("resume", "killed", "--spans-per-s", "0")
    assert f"{TRACES} traces new, 0 amended, 0 unchanged" in said, said
    assert not differences(made.derived(), lived)
    places = Counter(
        (record.partition, place)
        for record in made.records(made.topics.replay)
        if (place := dict(record.headers).get(POSITION_HEADER))
    )
    assert places
    assert max(places.values()) == 1
    assert "is done: start a new one" in made.replay("resume", "killed", expect=1)


def test_a_replay_that_is_killed_at_random_moments_gives_the_same(made: Deployment, lived: Rows) -> None:
    made.forget_history()
    moments = Random(8)
    command = ("run", "--name", "hunted", "--spans-per-s", "300")
    for turn in range(4):
        hunted = made.start_replay(*command)
        eventually(lambda: made.count("SELECT count(*) FROM replays WHERE name = 'hunted'"), bool, 90)
        time.sleep(moments.uniform(0, 8))
        # Its worker is left to end by itself, or dies with it.
        workers = psutil.Process(hunted.pid).children() if turn % 2 and hunted.poll() is None else []
        ended(hunted, signal.SIGKILL)
        for worker in workers:
            worker.kill()
        command = ("resume", "hunted", "--spans-per-s", "300")
    if "done" not in made.replay("status", "hunted"):
        made.replay("resume", "hunted", "--spans-per-s", "0")
    (counted,) = made.query("SELECT traces_new, traces_amended, traces_unchanged FROM replays WHERE name = 'hunted'")
    assert counted == (TRACES, 0, 0)
    assert not differences(made.derived(), lived)


def test_what_an_older_version_derived_is_replaced_in_place(made: Deployment, lived: Rows) -> None:
    made.replay("run")  # whatever stands there by now: the history is whole
    made.derive_as_an_older_version()
    assert set(differences(made.derived(), lived)) > {"traces", "service_traces", "operation_windows"}
    said = made.replay("run")
    assert f"0 traces new, {TRACES} amended, 0 unchanged" in said, said
    assert not differences(made.derived(), lived)


def test_a_replay_is_paced_cancelled_and_told_of(made: Deployment, lived: Rows) -> None:
    live_offsets = made.committed(f"{made.topics.prefix}stream")
    paced = made.start_replay("run", "--name", "paced", "--speed", "0.01x")
    eventually(lambda: made.count("SELECT count(*) FROM replays WHERE name = 'paced' AND position > 0"), bool, 90)
    replay_id = made.query("SELECT replay_id FROM replays WHERE name = 'paced'")[0][0]
    own = eventually(lambda: made.committed(f"{made.topics.prefix}replay-stream.{replay_id}"))
    assert {topic for topic, _ in own} == {made.topics.replay, made.topics.findings}
    assert made.committed(f"{made.topics.prefix}stream") == live_offsets, "the live group is another"
    assert "runs already" in made.replay("resume", "paced", expect=1)
    assert "running" in made.replay("status", "paced")
    assert "being cancelled" in made.replay("cancel", "paced")
    code, said = ended(paced)
    assert (code, "was cancelled" in said) == (1, True), said
    assert "cancelled" in made.replay("list")
    assert "is cancelled already" in made.replay("cancel", "paced", expect=1)
    assert "there is a replay named 'paced' already" in made.replay("run", "--name", "paced", expect=1)
    assert "there is no replay named 'nobody'" in made.replay("status", "nobody", expect=1)


def test_ctrl_c_leaves_a_replay_that_is_resumed(made: Deployment, lived: Rows) -> None:
    made.forget_history()
    stopped = made.start_replay("run", "--name", "stopped", "--spans-per-s", "100")
    eventually(lambda: made.count("SELECT coalesce(max(spans), 0) FROM replays WHERE name = 'stopped'"), bool, 90)
    code, said = ended(stopped, signal.SIGINT)
    assert (code, "go on with: python -m replay resume stopped" in said) == (130, True), said
    assert "interrupted" in made.replay("status", "stopped")
    assert f"{TRACES} traces new, 0 amended, 0 unchanged" in made.replay("resume", "stopped", "--spans-per-s", "0")
    assert not differences(made.derived(), lived)


def test_the_history_itself_is_replayed_of_one_service_and_changes_nothing(made: Deployment, lived: Rows) -> None:
    said = made.replay("run", "--history", "--service", "service-3")
    assert f"0 traces new, 0 amended, {TRACES} unchanged" in said, said
    kept = ("traces", "operation_windows", "hop_windows", "service_dependencies")
    now = made.derived()
    assert not differences({table: now[table] for table in kept}, {table: lived[table] for table in kept})
    assert "0 records, 0 spans" in made.replay("run", "--dry-run", "--history", "--to", "2001-01-01")
    assert f"{TRACES} traces" in made.replay("run", "--dry-run", "--offsets", "0:0-", "--offsets", "1:0-")


def test_what_jaeger_and_zipkin_exported_appears_as_traces(made: Deployment, shared_data: Path, tmp_path: Path) -> None:
    zipkin = shared_data / "fixtures" / "zipkin" / "messaging-kafka.json"
    said = made.replay("run", "--zipkin", str(zipkin))
    assert re.search(r" [1-9]\d* traces new", said), said
    exported = tmp_path / "jaeger.json"
    exported.write_bytes(jaeger(one()))
    assert " 1 traces new" in made.replay("run", "--jaeger", str(exported))
    assert made.count("SELECT count(*) FROM service_traces WHERE service = 'shop' AND operation = 'GET /'") == 1
    assert "not Jaeger's JSON" in made.replay("run", "--jaeger", __file__, expect=1)
