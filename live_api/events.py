"""Records of the topics as events of the feeds."""

import msgspec

from live_api.feed import Event
from live_api.traces import TraceSummary, decode_summary
from tracecore.alert import Alert
from tracecore.errors import MalformedPayload
from tracecore.wire import decode_alert, encode_alert

_json = msgspec.json.Encoder()


def alert_event(partition: int, offset: int, value: bytes) -> Event[Alert]:
    """An alert; encoded again, so that nothing but the contract's fields leaves us. Raises ``MalformedPayload``."""
    alert = decode_alert(value)
    missing = {"service", "severity"} - alert.labels.keys()
    if missing:
        raise MalformedPayload(f"an alert without label {', '.join(sorted(missing))}")
    return Event(partition, offset, alert, encode_alert(alert))


def trace_event(partition: int, offset: int, value: bytes) -> Event[TraceSummary] | None:
    """A closed trace's summary; None for the later parts of a large one. Raises ``MalformedPayload``."""
    summary = decode_summary(value)
    return None if summary is None else Event(partition, offset, summary, _json.encode(summary))
