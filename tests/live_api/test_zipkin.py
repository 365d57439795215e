"""Zipkin's read API against the history."""

import os
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.live_api.history import MS, NOON_MS, NOON_NS, Made, made_trace, store
from tests.services import ROOT
from tracecore.span import SpanKind

RANGE = {"endTs": NOON_MS + 60_000, "lookback": 120_000}

#: Client and server share span id 2, as Zipkin's own instrumentation has it.
SHARED = made_trace(
    7,
    Made(1, service="web", name="get", duration_ms=40),
    Made(2, 1, service="web", name="call", kind=SpanKind.CLIENT, start_ms=1, duration_ms=30,
         attributes={"peer.service": "db", "n": 5}),
    Made(2, 1, service="app", name="handle", start_ms=2, duration_ms=20, error=True),
    Made(3, 2, service="app", name="inner", kind=SpanKind.INTERNAL, start_ms=3, duration_ms=5, events=({"a": 1},)),
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def stored(history: str) -> None:
    """What every test here asks for."""
    store(history, [SHARED])


@pytest.mark.parametrize("prefix", ["/api/v2", "/zipkin/api/v2"])
async def test_trace_reads_as_zipkin_sent_it(queries: httpx.AsyncClient, prefix: str) -> None:
    answer = await queries.get(f"{prefix}/trace/{7:016x}")
    assert answer.status_code == 200
    root, client, server, inner = answer.json()
    assert root == {
        "traceId": f"{7:032x}",
        "id": f"{1:016x}",
        "name": "get",
        "kind": "SERVER",
        "timestamp": NOON_NS // 1000,
        "duration": 40_000,
        "localEndpoint": {"serviceName": "web"},
    }
    assert client["remoteEndpoint"] == {"serviceName": "db"}
    assert client["tags"] == {"peer.service": "db", "n": "5"}
    assert (server["id"], server["parentId"], server["shared"]) == (client["id"], root["id"], True)
    assert server["tags"]["error"] == "it broke"
    assert inner["parentId"] == server["id"]
    assert "kind" not in inner and inner["annotations"] == [
        {"timestamp": (NOON_NS + 3 * MS) // 1000, "value": "happened"}
    ]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"serviceName": "web"}, 1),
        ({"serviceName": "web", "spanName": "call"}, 1),
        ({"serviceName": "web", "annotationQuery": "n=5 and peer.service"}, 1),
        ({"serviceName": "app", "annotationQuery": "happened"}, 1),
        ({"annotationQuery": "happened"}, 1),
        ({"serviceName": "app", "annotationQuery": "error"}, 0),
        ({"serviceName": "web", "minDuration": "41000"}, 0),
        ({"serviceName": "web", "minDuration": "30000", "maxDuration": "31000"}, 1),
    ],
)
async def test_search(queries: httpx.AsyncClient, asked: dict[str, str], found: int) -> None:
    answer = await queries.get("/api/v2/traces", params={**RANGE, **asked})
    assert answer.status_code == 200, answer.text
    assert [len(trace) for trace in answer.json()] == [4] * found


async def test_lists_and_dependencies(queries: httpx.AsyncClient) -> None:
    assert (await queries.get("/api/v2/services")).json() == ["app", "web"]
    assert (await queries.get("/api/v2/spans", params={"serviceName": "app"})).json() == ["handle", "inner"]
    answer = await queries.get("/api/v2/dependencies", params=RANGE)
    assert {"parent": "web", "child": "app", "callCount": 1, "errorCount": 1} in answer.json()
    answer = await queries.get("/api/v2/traceMany", params={"traceIds": f"{7:016x},{8:016x}"})
    assert [len(trace) for trace in answer.json()] == [4]


async def test_errors_are_plain_text(queries: httpx.AsyncClient) -> None:
    answer = await queries.get("/api/v2/trace/00000000000000aa")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/plain; charset=utf-8")
    answer = await queries.get("/api/v2/spans")
    assert (answer.status_code, answer.text) == (400, "serviceName: is required")
    answer = await queries.get("/api/v2/traceMany", params={"traceIds": "1"})
    assert answer.status_code == 400


ZIPKIN = "io.zipkin.zipkin2:zipkin:3.5.1"


@pytest.fixture(scope="session")
def zipkin_library() -> Path:
    """Zipkin's own Java library, one jar from Maven Central, fetched once into the user's cache."""
    maven = shutil.which("mvn")
    if maven is None or shutil.which("javac") is None:
        pytest.skip("needs Maven and a JDK: apt-get install maven openjdk-17-jdk-headless")
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tracewatch"
    jar = folder / f"zipkin-{ZIPKIN.rpartition(':')[2]}.jar"
    if not jar.exists():
        goal = [f"-Dartifact={ZIPKIN}", f"-DoutputDirectory={folder}"]
        command = [maven, "--batch-mode", "--quiet", "dependency:copy", *goal]
        fetched = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if fetched.returncode != 0:
            pytest.skip(f"Maven could not fetch {ZIPKIN}: {fetched.stdout[-500:]}")
    return jar


def test_zipkins_own_library_reads_the_trace_and_finds_the_same_dependencies(
    history_url: str, zipkin_library: Path
) -> None:
    command = [
        "java",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        str(zipkin_library),
        str(ROOT / "tests/live_api/ZipkinClient.java"),
    ]
    arguments = [history_url, f"{7:032x}", str(RANGE["endTs"]), str(RANGE["lookback"])]
    client = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert client.returncode == 0, client.stderr
    lines = client.stdout.splitlines()
    assert [line for line in lines if line.startswith("span")] == [
        "span 0 web get SERVER null 40000 null {}",
        "span 1 web call CLIENT null 30000 db {n=5, peer.service=db}",
        "span 2 app handle SERVER true 20000 null {error=it broke}",
        "span 3 app inner null null 5000 null {}",
    ]
    assert "linked web app 1 1" in lines
    assert "stored web app 1 1" in lines
    assert {line.removeprefix("linked ") for line in lines if line.startswith("linked")} == {
        line.removeprefix("stored ") for line in lines if line.startswith("stored")
    }
