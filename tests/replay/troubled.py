"""A made-up recording with a fault in it: calls that are quick, then slow and failing, then quick again."""

import random
from pathlib import Path

from tests.tracecore.builders import T0_NS, span
from tracecore.otlp import encode_spans
from tracecore.span import SpanKind

MINUTES = 12
FAULT_MINUTES = (6, 8)
FAULTY = "orders"


def write_recording(path: Path) -> Path:
    """Two traces a second, as length-delimited OTLP; while the fault lasts, ``orders`` is slow and fails."""
    randomness = random.Random(8)
    with path.open("wb") as file:
        for number in range(MINUTES * 120):
            start_ms = number * 500 + randomness.uniform(0, 100)
            bad = FAULT_MINUTES[0] <= start_ms / 60_000 < FAULT_MINUTES[1]
            took_ms = randomness.uniform(400, 500) if bad else randomness.uniform(10, 14)
            web = span(
                "GET /",
                trace=number + 1,
                service="web",
                kind=SpanKind.SERVER,
                start_ms=start_ms,
                duration_ms=took_ms + 5,
            )
            call = span(
                "order", parent=web, service="web", kind=SpanKind.CLIENT, start_ms=start_ms + 2, duration_ms=took_ms
            )
            served = span(
                "order", parent=call, service=FAULTY, kind=SpanKind.SERVER, start_ms=start_ms + 3,
                duration_ms=took_ms - 2, error="no stock" if bad and number % 2 else False,
            )  # fmt: skip
            file.write(delimited(encode_spans([web, call, served])))
    return path


def labels() -> dict[str, list[dict[str, object]]]:
    """As a person would label it."""
    start, end = (T0_NS // 10**9 + minutes * 60 for minutes in FAULT_MINUTES)
    return {"faults": [{"service": FAULTY, "start_unix": start, "end_unix": end}]}


def delimited(*values: bytes) -> bytes:
    """Each behind its length as a varint."""
    whole = b""
    for value in values:
        length = len(value)
        while length >= 128:
            whole += bytes((length & 127 | 128,))
            length >>= 7
        whole += bytes((length,)) + value
    return whole
