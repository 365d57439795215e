"""A service under load while Kafka is killed and comes back: what its callers feel.

    python -m bench.producer_outage [--requests-per-second 100] [--outage 30]

A Flask service with our middleware answers a steady load for ten seconds with
Kafka, through an outage (kill -9), and after Kafka's return. Printed for each
phase: the latency that a caller sees, and the exporter's counters at its end.
Needs Java and Maven, for an Apache Kafka to kill.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SERVICE = """
from dataclasses import asdict
from flask import Flask
from werkzeug.serving import make_server
import logging, tracewatch
from tracewatch.configuration import exporter
from tracewatch.flask import TracingMiddleware

logging.getLogger("werkzeug").setLevel(logging.ERROR)
app = Flask("service")
TracingMiddleware(app, service_name="service", excluded_paths=["/counters"])

@tracewatch.trace_function(name="work")
def work(number):
    return {"answer": sum(range(number))}

@app.get("/work/<int:number>")
def answer(number):
    return work(number)

@app.get("/counters")
def counters():
    spans = exporter()
    delivery = spans._delivery
    waiting = {"queued": len(spans._queue), "pending_bytes": delivery.pending.size_bytes if delivery else 0}
    return asdict(spans.counters) | waiting

server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


def main() -> None:
    from quickstart.apache_kafka import ApacheKafka
    from tests.services import create_topic

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests-per-second", type=int, default=100)
    parser.add_argument("--outage", type=float, default=30.0, help="seconds without Kafka")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        ApacheKafka(log_path=Path(directory) / "kafka.log") as kafka,
    ):
        create_topic(kafka.bootstrap_servers, "tracewatch.spans", 8, {})
        environment = os.environ | {"TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
        service = subprocess.Popen([sys.executable, "-c", SERVICE], env=environment, stdout=subprocess.PIPE, text=True)
        assert service.stdout is not None
        try:
            url = f"http://127.0.0.1:{int(service.stdout.readline())}"
            print(f"{'phase':22} {'requests':>9} {'p50 ms':>8} {'p99 ms':>8} {'max ms':>8}  counters at its end")
            phase("warm up", url, arguments.requests_per_second, 3)
            phase("with Kafka", url, arguments.requests_per_second, 10)
            kafka.kill()
            phase("Kafka killed", url, arguments.requests_per_second, arguments.outage)
            loading = threading.Thread(
                target=phase, args=("Kafka starts again", url, arguments.requests_per_second, 12)
            )
            loading.start()
            kafka.start()
            loading.join()
            phase("with Kafka", url, arguments.requests_per_second, 5)
        finally:
            service.terminate()
            service.wait(15)


def phase(name: str, url: str, requests_per_second: int, seconds: float) -> None:
    """Send a steady load and print what it felt."""
    latencies_ms: list[float] = []

    def call(_: int) -> None:
        started = time.perf_counter()
        with urllib.request.urlopen(f"{url}/work/1000", timeout=30) as response:
            response.read()
        latencies_ms.append((time.perf_counter() - started) * 1000)

    begin = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        for number in range(int(seconds * requests_per_second)):
            pool.submit(call, number)
            time.sleep(max(0.0, begin + (number + 1) / requests_per_second - time.monotonic()))
    with urllib.request.urlopen(f"{url}/counters", timeout=30) as response:
        counters = json.loads(response.read())
    latencies_ms.sort()
    p50, p99 = (latencies_ms[int(len(latencies_ms) * share)] for share in (0.5, 0.99))
    shown = " ".join(f"{key.removesuffix('_total')}={value}" for key, value in sorted(counters.items()))
    print(f"{name:22} {len(latencies_ms):9} {p50:8.1f} {p99:8.1f} {latencies_ms[-1]:8.1f}  {shown}", flush=True)


if __name__ == "__main__":
    main()
