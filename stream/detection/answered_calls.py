"""Which client operations are answered by traced servers: their self time is the gap of a hop, not the caller's own."""

from tracecore.closed_trace import ClosedTrace
from tracecore.span import SpanKind
from tracecore.window import OperationWindow, Window

# Plain integers: to compare with an enum's member costs three times as much, for every span.
_RECEIVING = (int(SpanKind.SERVER), int(SpanKind.CONSUMER))
_CALLING = (int(SpanKind.CLIENT), int(SpanKind.PRODUCER))

#: Client operations remembered; beyond it new ones count as not answered.
MAX_OPERATIONS = 50_000


class AnsweredCalls:
    """Learned from closed traces, a worker's own."""

    def __init__(self) -> None:
        self._answered: dict[tuple[str, str], float] = {}

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
            self._answered[key] = now if share is None else share + 0.05 * (now - share)

    def without(self, windows: list[Window]) -> list[Window]:
        """``windows`` but those of client operations that are mostly answered."""
        return [window for window in windows if not self._is_answered(window)]

    def _is_answered(self, window: Window) -> bool:
        if not isinstance(window, OperationWindow) or window.kind not in _CALLING:
            return False
        return self._answered.get((window.service, window.operation), 0.0) >= 0.5
