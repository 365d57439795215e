"""Traces that somebody downloaded from Jaeger or Zipkin, as JSON. They arrive when their latest span ended."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from replay.errors import SourceUnreadable
from replay.records import SourceRecord, spans_of
from replay.sources.otlp_file import opened
from replay.stretch import Stretch
from tracecore.errors import MalformedPayload
from tracecore.jaeger_json import otlp_of_jaeger_json
from tracecore.otlp import encode_spans
from tracecore.span import Span
from tracecore.zipkin_json import otlp_of_zipkin_json


class JsonExport:
    """One file of Jaeger's (``{"data": [...]}``) or Zipkin's (``[...]`` of spans, or of traces) JSON."""

    def __init__(self, path: Path, kind: Literal["jaeger", "zipkin"], stretch: Stretch) -> None:
        with opened(path) as file:
            body = file.read()
        convert = otlp_of_jaeger_json if kind == "jaeger" else otlp_of_zipkin_json
        try:
            spans, _ = spans_of(SourceRecord(0, 0, convert(body)))
        except MalformedPayload as error:
            raise SourceUnreadable(f"{path}: {error}") from None
        traces: dict[bytes, list[Span]] = {}
        for span in spans:
            traces.setdefault(span.trace_id, []).append(span)
        arrivals = ((max(span.end_ns for span in trace), trace) for trace in traces.values())
        self._traces = sorted((a for a in arrivals if stretch.holds(a[0])), key=lambda arrival: arrival[0])
        self._name = f"{kind}:{path.name}"

    @property
    def name(self) -> str:
        """``jaeger:FILE`` or ``zipkin:FILE``."""
        return self._name

    @property
    def total_records(self) -> int:
        """A record a trace."""
        return len(self._traces)

    async def records(self) -> AsyncIterator[SourceRecord]:
        """A record a trace."""
        for position, (arrival_ns, spans) in enumerate(self._traces):
            yield SourceRecord(position, arrival_ns, encode_spans(spans))
