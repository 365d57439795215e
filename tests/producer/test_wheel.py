"""The wheel alone, in an empty environment without the repository: what the docs print runs as printed.

The slowest test of this room (about a minute, most of it pip's), and the only one
that sees what a service gets: a file missing from the wheel, an undeclared
dependency or a stale example shows nowhere else.
"""

import os
import re
import socket
import subprocess
import sys
import time
import venv
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.producer.conftest import ROOT, Delivered, service_environment
from tests.services import KafkaServer

Read = Callable[..., list[Delivered]]


def run(*command: str | Path, cwd: Path, timeout_s: int = 240) -> str:
    outcome = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    outcome = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", directory, ROOT],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if outcome.returncode and "No matching distribution" in outcome.stderr:
        pytest.skip("needs a package index, to build the wheel")
    assert outcome.returncode == 0, outcome.stderr
    (built,) = directory.glob("tracewatch-*.whl")
    return built


@pytest.fixture(scope="module")
def service_home(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an environment of its own in ``venv`` and the examples of the page as files."""
    home = tmp_path_factory.mktemp("service")
    # pip of the tests' own environment installs into it: making one there takes longer than all the packages.
    venv.create(home / "venv", with_pip=False)
    into = ("--python", home / "venv/bin/python", "install", "--quiet", "--no-compile")
    extras = f"tracewatch[flask,fastapi,requests,httpx,gateway] @ {wheel.as_uri()}"
    run(sys.executable, "-m", "pip", *into, extras, "opentelemetry-distro", cwd=home)
    page = (ROOT / "docs" / "instrumenting.md").read_text()
    for name, code in re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        (home / name).write_text(code)
    return home


def test_the_wheel_holds_the_instrumentation_and_claims_no_other_name(wheel: Path) -> None:
    names = {Path(name).parts[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"tracewatch"}
    assert "tracewatch/py.typed" in zipfile.ZipFile(wheel).namelist()


@contextmanager
def serving(home: Path, environment: dict[str, str], *command: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    process = subprocess.Popen(
        [home / "venv/bin" / command[0], *command[1:], *(["--port", str(port)] if command[0] != "python" else [])],
        cwd=home,
        env=environment | {"TRACEWATCH_GATEWAY_PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, f"{command} did not start"
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(15)


@pytest.mark.parametrize(
    ("command", "span", "service"),
    [
        (("flask", "--app", "flask_service", "run"), "GET /quotes/<symbol>", "yahoo_finance_proxy"),
        (("uvicorn", "fastapi_service:app"), "GET /quotes/{symbol}", "quotes"),
    ],
)
def test_a_service_as_printed(
    service_home: Path,
    kafka: KafkaServer,
    make_topic: Callable[..., str],
    delivered: Read,
    command: tuple[str, ...],
    span: str,
    service: str,
) -> None:
    topic = make_topic("spans")
    with serving(service_home, clean_environment(kafka, topic), *command) as url:
        assert httpx.get(url + "/quotes/ACME", timeout=30).json()["symbol"] == "ACME"
        found = {each.span.name: each.service for each in delivered(topic, 1)}
    assert found.pop(span) == service
    assert found in ({}, {"fetch_stock_data": service})


def test_the_script_as_printed(
    service_home: Path, kafka: KafkaServer, make_topic: Callable[..., str], delivered: Read
) -> None:
    topic = make_topic("spans")
    outcome = subprocess.run(
        [service_home / "venv/bin/python", "script.py"],
        cwd=service_home,
        env=clean_environment(kafka, topic),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    spans = {each.span.name: each.span for each in delivered(topic, 2)}
    assert set(spans) == {"report", "lines"}
    assert spans["lines"].parent_span_id == spans["report"].span_id
    assert outcome.stderr.count(f"[{spans['report'].trace_id.hex()}]") == 2


def test_the_sampler_as_printed(service_home: Path, kafka: KafkaServer, make_topic: Callable[..., str]) -> None:
    environment = clean_environment(kafka, make_topic("spans"))
    subprocess.run([service_home / "venv/bin/python", "sampled.py"], cwd=service_home, env=environment, check=True)


def test_opentelemetrys_user_as_printed(
    service_home: Path, kafka: KafkaServer, make_topic: Callable[..., str], delivered: Read
) -> None:
    topic = make_topic("spans")
    (service_home / "service.py").write_text(
        "from opentelemetry import trace\ntrace.get_tracer('t').start_span('s').end()\n"
    )
    page = (ROOT / "docs" / "instrumenting.md").read_text()
    exports = " ".join(re.findall(r"^    export (OTEL_.*)$", page, re.MULTILINE))
    (command,) = re.findall(r"^    (opentelemetry-instrument .*)$", page, re.MULTILINE)
    environment = clean_environment(kafka, topic) | dict(pair.split("=") for pair in exports.split())
    environment["PATH"] = f"{service_home / 'venv/bin'}:{environment['PATH']}"
    outcome = subprocess.run(
        command.split(), cwd=service_home, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert outcome.returncode == 0, outcome.stderr
    assert [(each.service, each.span.name) for each in delivered(topic, 1)] == [("orders", "s")]


def test_the_gateway_as_printed(service_home: Path, kafka: KafkaServer, make_topic: Callable[..., str]) -> None:
    environment = clean_environment(kafka, make_topic("spans"))
    with serving(service_home, environment, "python", "-m", "tracewatch.gateway") as url:
        assert httpx.get(url + "/healthz", timeout=30).json() == {"status": "ok"}


def clean_environment(kafka: KafkaServer, topic: str) -> dict[str, str]:
    """As a service's: nothing of the repository on the path."""
    environment = service_environment(kafka.bootstrap_servers, topic)
    return {name: value for name, value in environment.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")} | {
        "PATH": os.environ["PATH"]
    }
