"""Secrets masked in what is about to be stored. Rows are made as ever; whoever meets a secret stops, and this mends.

Looking for secrets costs nothing extra for what rows are made of anyway: key-values that were looked at once are kept
by their bytes (``sink.attributes``), so that only new ones are asked about. A trace in which there is something to
mask, which our own instrumentation does before it sends, is parsed and written anew as a whole.
"""

from dataclasses import replace
from typing import TypeVar

from tracecore.alert import Alert
from tracecore.closed_trace import ClosedTrace
from tracecore.health import Health
from tracecore.otlp import resource_of
from tracecore.redaction import Redaction
from tracecore.span import Resource, Scope
from tracecore.window import HopWindow, OperationWindow

StatementT = TypeVar("StatementT", bound=Alert | Health | OperationWindow | HopWindow)


class SecretInside(Exception):
    """Something that may not be stored in the clear; never leaves the making of rows."""


def masked_trace(redaction: Redaction, trace: ClosedTrace) -> ClosedTrace:
    """The trace with every secret masked: in its spans' bytes and names, resources, scopes and root."""
    return replace(
        trace,
        root_name=redaction.text(trace.root_name),
        warnings=tuple(map(redaction.text, trace.warnings)),
        resources=tuple(_masked_resource(redaction, resource) for resource in trace.resources),
        scopes=tuple(Scope(redaction.masked_scope(scope.raw), scope.schema_url) for scope in trace.scopes),
        spans=tuple(
            span._replace(name=redaction.text(span.name), raw=redaction.masked_span(span.raw)) for span in trace.spans
        ),
    )


def masked_statement(redaction: Redaction, statement: StatementT) -> StatementT:
    """An alert, a window, a health: the same object unless one of its texts has something to mask."""
    if isinstance(statement, OperationWindow | HopWindow):
        operation = redaction.text(statement.operation)
        return statement if operation == statement.operation else replace(statement, operation=operation)
    if isinstance(statement, Alert):
        labels = {name: redaction.text(value) for name, value in statement.labels.items()}
        annotations = {name: redaction.text(value) for name, value in statement.annotations.items()}
        if labels == statement.labels and annotations == statement.annotations:
            return statement
        return replace(statement, labels=labels, annotations=annotations)
    reasons = tuple(replace(reason, detail=redaction.text(reason.detail)) for reason in statement.reasons)
    return statement if reasons == statement.reasons else replace(statement, reasons=reasons)


def _masked_resource(redaction: Redaction, resource: Resource) -> Resource:
    raw = redaction.masked_resource(resource.raw)
    return resource if raw is resource.raw else resource_of(raw, resource.schema_url)
