"""Real servers that fork and that are told to end: every request they answered is delivered."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.producer.conftest import Delivered, service_environment
from tests.services import KafkaServer

Read = Callable[..., list[Delivered]]

FLASK_SERVICE = """
import os
import tracewatch
from flask import Flask
from tracewatch.flask import TracingMiddleware

app = Flask(__name__)
TracingMiddleware(app, service_name="prefork")

@tracewatch.trace_function(name="at import")
def at_import():
    tracewatch.add_metadata(pid=os.getpid())

# With --preload this starts the exporter's thread, and makes a connection, in the master: before the forks.
at_import()
tracewatch.flush()

@app.get("/work/<int:number>")
def work(number):
    tracewatch.add_metadata(pid=os.getpid(), number=number)
    return {"pid": os.getpid()}
"""

FASTAPI_SERVICE = """
import os
from contextlib import asynccontextmanager
import tracewatch
from fastapi import FastAPI
from tracewatch.asgi import TracingMiddleware

@asynccontextmanager
async def lifespan(app):
    yield
    with tracewatch.configuration.tracer().start_as_current_span("shutting down"):
        pass

app = FastAPI(telemetry={"tracing": False}, lifespan=lifespan)
app.add_middleware(TracingMiddleware, service_name="asgi")

@app.get("/work/{number}")
async def work(number: int):
    tracewatch.add_metadata(pid=os.getpid(), number=number)
    return {"pid": os.getpid()}
"""


@contextmanager
def serving(directory: Path, environment: dict[str, str], *command: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The URL of a server and its process, which has a quarter of a minute to end when the block does."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    arguments = [argument.format(port=port) for argument in command]
    log = directory / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=directory, env=environment, stderr=output, text=True
        )
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.terminate()
            process.wait(15)


def numbers(found: list[Delivered], name: str) -> dict[int, int]:
    """The process that answered each numbered request."""
    spans = [{a.key: a.value.int_value for a in each.span.attributes} for each in found if each.span.name == name]
    assert len(spans) == len({span["number"] for span in spans})
    return {span["number"]: span["pid"] for span in spans}


@pytest.mark.parametrize("when", ["--preload", "--reuse-port"])
def test_gunicorns_workers_each_deliver_their_own(
    kafka: KafkaServer, make_topic: Callable[..., str], delivered: Read, tmp_path: Path, when: str
) -> None:
    """Configured before the fork (``--preload``, with a thread and a connection already there) or after it."""
    topic = make_topic("spans", partitions=2)
    (tmp_path / "service.py").write_text(FLASK_SERVICE)
    command = ("gunicorn", "service:app", when, "--workers=2", "--bind=127.0.0.1:{port}", "--worker-tmp-dir=.")
    environment = service_environment(kafka.bootstrap_servers, topic)
    with serving(tmp_path, environment, *command) as (url, process):
        answered: dict[int, int] = {}
        deadline = time.monotonic() + 20
        while len(answered) < 40 or (len(set(answered.values())) < 2 and time.monotonic() < deadline):
            # A connection each, or one worker would answer them all.
            answered[len(answered)] = httpx.get(f"{url}/work/{len(answered)}", timeout=20).json()["pid"]
        # At once: what the last requests left behind has not been sent.
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert len(set(answered.values())) == 2
    at_import = 1 if when == "--preload" else 2
    found = delivered(topic, len(answered) + at_import)
    assert numbers(found, "GET /work/<int:number>") == answered
    assert sum(each.span.name == "at import" for each in found) == at_import
    assert {each.service for each in found} == {"prefork"}


def test_uvicorn_ends_with_everything_delivered(
    kafka: KafkaServer, make_topic: Callable[..., str], delivered: Read, tmp_path: Path
) -> None:
    topic = make_topic("spans")
    (tmp_path / "service.py").write_text(FASTAPI_SERVICE)
    # Nothing is sent before the end asks for it.
    environment = service_environment(kafka.bootstrap_servers, topic) | {
        "TRACEWATCH_PRODUCER_LINGER_MS": "60000",
        "TRACEWATCH_PRODUCER_EARLY_FLUSH_INTERVAL_MS": "60000",
    }
    with serving(tmp_path, environment, "uvicorn", "service:app", "--port={port}") as (url, process):
        answered = {number: httpx.get(f"{url}/work/{number}", timeout=20).json()["pid"] for number in range(3)}
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
    found = delivered(topic, 4)
    assert numbers(found, "GET /work/{number}") == answered
    assert os.getpid() not in answered.values()
    assert {each.span.name for each in found} == {"GET /work/{number}", "shutting down"}
