"""Which client operations are answered by traced servers: their self time is the gap of a hop, not the caller's own."""

import math
from collections.abc import Sequence

import numpy as np

from stream.detection.runs import Run, runs
from tracecore.closed_trace import ClosedTrace
from tracecore.span import SpanKind
from tracecore.window import OperationWindow, Window

try:
    from stream.detection import usual_spans
except (ImportError, RuntimeError):  # no numba: then there are no runs to learn at once
    usual_spans = None  # type: ignore[assignment]

# Plain integers: to compare with an enum's member costs three times as much, for every span.
_RECEIVING = (int(SpanKind.SERVER), int(SpanKind.CONSUMER))
_CALLING = (int(SpanKind.CLIENT), int(SpanKind.PRODUCER))

#: How fast the share of answered calls is followed.
RATE = 0.05
#: Client operations remembered; beyond it new ones count as not answered.
MAX_OPERATIONS = 50_000


class AnsweredCalls:
    """Learned from closed traces, a worker's own."""

    def __init__(self) -> None:
        self._answered: dict[tuple[str, str], float] = {}

    def learn_all(self, closed: Sequence[ClosedTrace]) -> None:
        """``learn`` each, in their order; those that were analysed together by compiled code."""
        for traces in runs(closed):
            if not isinstance(traces, Run) or not self._learn_together(traces):
                for trace in traces:
                    self.learn(trace)

    def learn(self, closed: ClosedTrace) -> None:
        """Note for each client operation of a trace how often a server answered it. O(spans)."""
        calls = [span for span in closed.spans if span[6] in _CALLING]
        if not calls:
            return
        answered = {span.tree_parent_id for span in closed.spans if span[6] in _RECEIVING}
        for span in calls:
            key = span.service, span.name
            share = self._answered.get(key)
            if share is None and len(self._answered) >= MAX_OPERATIONS:
                continue
            now = 1.0 if span.span_id in answered else 0.0
            self._answered[key] = now if share is None else share + RATE * (now - share)

    def without(self, windows: list[Window]) -> list[Window]:
        """``windows`` but those of client operations that are mostly answered."""
        return [window for window in windows if not self._is_answered(window)]

    def _learn_together(self, traces: Run) -> bool:
        """False, with nothing learned, if not all operations could be remembered."""
        operations = traces.spans.operations
        # Kinds of one name share what is known of it.
        number: dict[tuple[str, str], int] = {}
        of_operation = np.array(
            [number.setdefault((service, name), len(number)) for service, name, _ in operations.keys], np.int64
        )
        if len(self._answered) + len(number) > MAX_OPERATIONS:
            return False
        shares = np.array([self._answered.get(key, math.nan) for key in number])
        usual_spans.UsualSpans(traces.spans, traces.numbers).follow_answers(of_operation[operations.of], shares, RATE)
        for key, share in zip(number, shares.tolist(), strict=True):
            if not math.isnan(share):
                self._answered[key] = share
        return True

    def _is_answered(self, window: Window) -> bool:
        if not isinstance(window, OperationWindow) or window.kind not in _CALLING:
            return False
        return self._answered.get((window.service, window.operation), 0.0) >= 0.5
