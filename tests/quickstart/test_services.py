"""The embedded services really serve, come back after a crash, and leave nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from quickstart import embedded_postgres
from quickstart.apache_kafka import ApacheKafka
from quickstart.embedded_broker import EmbeddedBroker
from quickstart.embedded_postgres import EmbeddedPostgres
from quickstart.errors import ProcessFailed
from quickstart.process import ManagedProcess, is_port_free
from tests.conftest import MakeTopic
from tests.services import KafkaServer, create_topic


async def sent(bootstrap_servers: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers) as producer:
        await producer.send_and_wait(topic, value)


async def first_value(bootstrap_servers: str, topic: str) -> bytes:
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest") as consumer:
        record = await asyncio.wait_for(consumer.getone(), 15)
    assert record.value is not None
    return bytes(record.value)


async def test_a_record_sent_to_the_sessions_broker_is_read_back(kafka: KafkaServer, make_topic: MakeTopic) -> None:
    topic = make_topic("spans", partitions=2)
    await sent(kafka.bootstrap_servers, topic, b"a span")
    assert await first_value(kafka.bootstrap_servers, topic) == b"a span"


async def test_a_record_sent_to_the_embedded_broker_is_read_back(
    embedded_kafka: KafkaServer, topic_prefix: str
) -> None:
    topic = f"{topic_prefix}spans"
    create_topic(embedded_kafka.bootstrap_servers, topic, 2, {})
    await sent(embedded_kafka.bootstrap_servers, topic, b"a span")
    assert await first_value(embedded_kafka.bootstrap_servers, topic) == b"a span"


async def test_apache_kafka_killed_and_started_again_still_holds_its_records(crashable_kafka: ApacheKafka) -> None:
    create_topic(crashable_kafka.bootstrap_servers, "spans", 1, {})
    await sent(crashable_kafka.bootstrap_servers, "spans", b"written before the crash")
    crashable_kafka.kill()
    assert is_port_free(crashable_kafka.port)
    crashable_kafka.start()
    assert await first_value(crashable_kafka.bootstrap_servers, "spans") == b"written before the crash"


def test_an_embedded_broker_frees_its_port_when_it_stops(tmp_path: Path) -> None:
    with EmbeddedBroker(log_path=tmp_path / "broker.log") as broker:
        assert not is_port_free(broker.port)
    assert is_port_free(broker.port)
    assert not broker.process.is_running


def test_a_broker_on_a_taken_port_fails_with_its_name_and_log(tmp_path: Path) -> None:
    with EmbeddedBroker(log_path=tmp_path / "first.log") as first:
        second = ManagedProcess(
            "second broker",
            EmbeddedBroker(log_path=tmp_path / "x", port=first.port).process.argv,
            log_path=tmp_path / "second.log",
        )
        with pytest.raises(ProcessFailed, match="second broker ended with exit code"):
            second.start().wait_until(lambda: False, timeout_s=10)


def test_embedded_postgres_keeps_its_rows_over_a_crash_and_deletes_them_when_closed(tmp_path: Path) -> None:
    with EmbeddedPostgres(log_path=tmp_path / "postgres.log") as server:
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        server.kill()
        server.start()
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
        home = server.process._cwd
        assert home is not None and home.exists()
    assert not home.exists()
    assert is_port_free(server.port)


def test_embedded_postgres_asks_for_its_password(tmp_path: Path) -> None:
    with EmbeddedPostgres(log_path=tmp_path / "postgres.log") as server:
        wrong = server.url.replace(server._password, "guessed")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another account")
def test_root_in_a_closed_home_runs_postgres_from_a_copy_of_the_binaries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_postgres, "_can_enter", lambda folder, account: False)
    with EmbeddedPostgres(log_path=tmp_path / "postgres.log") as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SHOW server_version_num").fetchone()[0] >= "180000"  # type: ignore[index]


def test_a_process_that_ends_before_it_is_ready_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    process = ManagedProcess(
        "stream", [sys.executable, "-c", "print('no brokers'); exit(3)"], log_path=tmp_path / "log"
    )
    with pytest.raises(ProcessFailed, match=r"stream ended with exit code 3\..*\n.*no brokers"):
        process.start().wait_until(lambda: False, timeout_s=10)


def test_a_program_that_is_not_there_is_reported_by_name(tmp_path: Path) -> None:
    process = ManagedProcess("stream", ["/no/such/program"], log_path=tmp_path / "log")
    with pytest.raises(ProcessFailed, match="stream "):
        process.start().wait_until(lambda: False, timeout_s=10)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_no_child_outlives_the_process_that_started_it(tmp_path: Path, ending: signal.Signals) -> None:
    pid_file = tmp_path / "pid"
    program = f"""
import time
from pathlib import Path
from quickstart.process import ManagedProcess
child = ManagedProcess("child", ["sleep", "600"], log_path=Path({str(tmp_path / "log")!r})).start()
Path({str(pid_file)!r}).write_text(str(child.pid))
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 60  # a process starts, and ends, on a machine that has much else to do
    while not (pid_file.exists() and pid_file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child = int(pid_file.read_text())
    parent.send_signal(ending)
    parent.wait(60)
    while runs(child):
        assert time.monotonic() < deadline, "the child was left behind"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
