"""The doctor on real servers: all well, and each thing broken in turn."""

from collections.abc import Callable
from pathlib import Path

from migrations.runner import migrate_down
from tests.conftest import environment_of
from tests.services import KafkaServer, delete_topics, run_room
from tests.sink.harness import SinkProcess
from tests.stream.worker import StreamWorker
from tracecore.topics import Topics


def seen_by_doctor(environment: dict[str, str], tmp_path: Path) -> tuple[int, str]:
    outcome = run_room("quickstart", "doctor", "--run-dir", str(tmp_path / "none"), environment=environment)
    assert "Traceback" not in outcome.stderr, outcome.stderr
    return outcome.returncode, outcome.stdout


def test_a_deployment_that_is_well_and_what_breaks_in_it(
    apache_kafka: KafkaServer, database: str, topics: Topics, make_topics: Callable[..., Topics], tmp_path: Path
) -> None:
    environment = {
        **environment_of(apache_kafka, topics),
        "TRACEWATCH_DATABASE_URL": database,
        "TRACEWATCH_KAFKA_PARTITIONS": "2",
    }
    code, said = seen_by_doctor(environment, tmp_path)
    assert code == 1
    assert f"missing: {topics.otlp_spans}" in said and "python -m stream" in said

    make_topics()
    code, said = seen_by_doctor(environment, tmp_path)
    assert code == 1
    assert said.count("nobody reads") == 2 and "python -m sink" in said

    worker = StreamWorker(environment, tmp_path / "stream.log").start()
    try:
        with SinkProcess(environment, tmp_path / "sink.log"):
            worker.ready()
            code, said = seen_by_doctor(environment, tmp_path)
            assert (code, said.splitlines()[-1]) == (0, "all is well"), said
            assert {"Kafka", "topics", "PostgreSQL", "migrations"} <= {line.split()[1] for line in said.splitlines()}

            migrate_down(database, 1)
            code, said = seen_by_doctor(environment, tmp_path)
            assert code == 1 and "python -m migrations up" in said
    finally:
        worker.terminate()
    if apache_kafka.kind == "named":
        delete_topics(apache_kafka.bootstrap_servers, topics.prefix)


def test_servers_that_do_not_answer_are_told_with_the_variable_to_look_at(tmp_path: Path) -> None:
    code, said = seen_by_doctor(
        {
            "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "TRACEWATCH_DATABASE_URL": "postgresql://127.0.0.1:1/none",
        },
        tmp_path,
    )
    assert code == 1
    assert "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS" in said and "TRACEWATCH_DATABASE_URL" in said
    assert said.splitlines()[-1] == "2 broken"


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    environment = {"TRACEWATCH_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "TRACEWATCH_KAFKA_SASL_USERNAME": "me"}
    outcome = run_room("quickstart", "doctor", "--run-dir", str(tmp_path), environment=environment)
    assert outcome.returncode == 2
    assert "TRACEWATCH_KAFKA_SASL_PASSWORD: Value error, is needed" in outcome.stderr
