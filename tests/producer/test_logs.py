"""Log lines find their trace."""

import io
import logging

from tests.producer.conftest import Recording
from tracewatch import TraceContextFilter


def test_records_carry_the_current_ids(recording: Recording) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(TraceContextFilter())
    handler.setFormatter(logging.Formatter("%(trace_id)s|%(span_id)s|%(trace_sampled)s|%(message)s"))
    logger = logging.Logger("service")
    logger.addHandler(handler)
    with recording.provider.get_tracer("t").start_as_current_span("span") as span:
        logger.info("inside")
    logger.info("outside")
    context = span.get_span_context()
    assert stream.getvalue().splitlines() == [
        f"{context.trace_id:032x}|{context.span_id:016x}|True|inside",
        "||False|outside",
    ]
