"""Filters: which alerts and which traces a subscriber asked for.

Read from a query string. Values of one name are alternatives, names are conditions that must all hold. Filters are
hashable, so that subscribers who ask for the same share one decision an event.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

from live_api.errors import InvalidParameter
from live_api.traces import TraceSummary
from tracecore.alert import Alert, AlertStatus, Severity

#: The value of ``replay`` that asks for live and replayed events alike.
ANY_REPLAY = "all"

_MAX_VALUES = 50
_MAX_VALUE_LENGTH = 256
#: Most subscribers name nothing: they share it.
_NONE: frozenset[str] = frozenset()
_TRUE = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class AlertFilter:
    """An empty set asks for everything. ``replay``: empty for live events alone, a replay's id, or ``all``."""

    services: frozenset[str] = frozenset()
    severities: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    statuses: frozenset[str] = frozenset()
    replay: str = ""

    def matches(self, alert: Alert) -> bool:
        """True if the subscriber asked for this alert. ``kind`` is the label ``kind``, or ``alertname``."""
        labels = alert.labels
        return (
            self.replay in (alert.replay_id, ANY_REPLAY)
            and (not self.services or labels.get("service") in self.services)
            and (not self.severities or labels.get("severity") in self.severities)
            and (not self.kinds or bool(self.kinds & {labels.get("kind"), labels.get("alertname")}))
            and (not self.statuses or alert.status in self.statuses)
        )


@dataclass(frozen=True, slots=True)
class TraceFilter:
    """``services`` are those that take part in a trace. ``replay`` as in ``AlertFilter``."""

    services: frozenset[str] = frozenset()
    min_duration_ns: int = 0
    errors_only: bool = False
    replay: str = ""

    def matches(self, trace: TraceSummary) -> bool:
        """True if the subscriber asked for this trace."""
        return (
            self.replay in (trace.replay_id, ANY_REPLAY)
            and trace.duration_ns >= self.min_duration_ns
            and not (self.errors_only and not trace.error_count)
            and (not self.services or not self.services.isdisjoint(trace.services))
        )


def alert_filter(query: Mapping[str, list[str]]) -> AlertFilter:
    """The filter that a query asks for: ``service``, ``severity``, ``kind``, ``status``, ``replay``.

    Raises ``InvalidParameter`` for a name or a value that means nothing.
    """
    _only_known(query, ("service", "severity", "kind", "status", "replay"))
    return AlertFilter(
        services=_values(query, "service"),
        severities=_values(query, "severity", get_args(Severity)),
        kinds=_values(query, "kind"),
        statuses=_values(query, "status", get_args(AlertStatus)),
        replay=_value(query, "replay"),
    )


def trace_filter(query: Mapping[str, list[str]]) -> TraceFilter:
    """The filter that a query asks for: ``service``, ``min_duration_ms``, ``errors_only``, ``replay``.

    Raises ``InvalidParameter`` for a name or a value that means nothing.
    """
    _only_known(query, ("service", "min_duration_ms", "errors_only", "replay"))
    errors_only = _value(query, "errors_only").lower() or "false"
    if errors_only not in _TRUE:
        raise InvalidParameter("errors_only", "must be true or false")
    return TraceFilter(
        services=_values(query, "service"),
        min_duration_ns=_milliseconds(query, "min_duration_ms"),
        errors_only=_TRUE[errors_only],
        replay=_value(query, "replay"),
    )


def _only_known(query: Mapping[str, list[str]], names: tuple[str, ...]) -> None:
    for name in query:
        if name not in names:
            raise InvalidParameter(name[:64], f"is no parameter of this feed, which takes {', '.join(names)} and after")


def _values(query: Mapping[str, list[str]], name: str, allowed: Iterable[str] = ()) -> frozenset[str]:
    values = query.get(name, [])
    if len(values) > _MAX_VALUES:
        raise InvalidParameter(name, f"may be given {_MAX_VALUES} times at most")
    for value in values:
        if not value or len(value) > _MAX_VALUE_LENGTH:
            raise InvalidParameter(name, f"must have 1 to {_MAX_VALUE_LENGTH} characters")
        if allowed and value not in allowed:
            raise InvalidParameter(name, f"must be one of {', '.join(allowed)}")
    return frozenset(values) if values else _NONE


def _value(query: Mapping[str, list[str]], name: str) -> str:
    values = query.get(name, [])
    if len(values) > 1:
        raise InvalidParameter(name, "may be given once")
    value = values[0] if values else ""
    if len(value) > _MAX_VALUE_LENGTH:
        raise InvalidParameter(name, f"must have {_MAX_VALUE_LENGTH} characters at most")
    return value


def _milliseconds(query: Mapping[str, list[str]], name: str) -> int:
    text = _value(query, name)
    if not text:
        return 0
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e12:
        raise InvalidParameter(name, "must be a number of milliseconds, 0 or more")
    return round(value * 1e6)
