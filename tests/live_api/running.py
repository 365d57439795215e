"""live_api as a process, and records for it to read."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from aiokafka import AIOKafkaProducer

from tests.live_api.builders import alert
from tests.services import ROOT
from tracecore.alert import Alert
from tracecore.wire import encode_alert


class LiveApi:
    """``python -m live_api`` on one port, which outlives its processes."""

    def __init__(self, environment: Mapping[str, str], port: int, log: Path) -> None:
        self.environment = {**os.environ, "TRACEWATCH_LIVE_API_PORT": str(port), **environment}
        self.port = port
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it; returns when it is ready."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "live_api"]
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=log)
        self.wait_until_ready()
        return self

    def wait_until_ready(self, timeout_s: float = 30.0) -> None:
        """Poll /readyz."""
        deadline = time.monotonic() + timeout_s
        status, body = 0, b""
        while time.monotonic() < deadline:
            assert self.process is not None and self.process.poll() is None, self.log.read_text()
            try:
                status, _, body = self.get("/readyz")
            except OSError:
                status = 0
            if status == 200:
                return
            time.sleep(0.02)
        raise AssertionError(f"not ready after {timeout_s} s: {status} {body!r}\n{self.log.read_text()}")

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        if self.process is None or self.process.poll() is not None:
            return -1
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of a GET."""
        return self.request("GET", path, headers=headers)

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body; ``body`` is sent as JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, dict(headers or {}), method=method
        )
        if data is not None:
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def ws(self, path: str) -> str:
        """The WebSocket URL of a path."""
        return f"ws://127.0.0.1:{self.port}{path}"


async def publish(bootstrap_servers: str, topic: str, values: Sequence[bytes], partition: int = 0) -> None:
    """Write records, each once; returns when they are there."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap_servers, enable_idempotence=True) as producer:
        pending = [await producer.send(topic, value, partition=partition) for value in values]
        await asyncio.gather(*pending)


async def publish_alerts(bootstrap_servers: str, topic: str, alerts: Sequence[Alert]) -> None:
    """Write alerts."""
    await publish(bootstrap_servers, topic, [encode_alert(each) for each in alerts])


def numbered_alerts(count: int, start: int = 0) -> list[Alert]:
    """Alerts of seven services, each event with its number."""
    return [alert(f"service-{number % 7}", number=number) for number in range(start, start + count)]
