"""Answers of the history, remembered for a while and asked for side by side: several viewers, one question."""

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from dashboard.database import History
from dashboard.queries.query import Query, Row

#: A question about a range changes by itself as the clock moves on; another one has to be asked again.
_RANGE_S: Final = 60.0
_OTHER_S: Final = 5.0
_REMEMBERED: Final = 500


class Answers:
    """A history that remembers. An answer belongs to all who asked: nobody may change it."""

    def __init__(self, history: History, side_by_side: int) -> None:
        self._history = history
        self._threads = ThreadPoolExecutor(side_by_side, thread_name_prefix="question")
        self._lock = threading.Lock()
        self._known: OrderedDict[Query, tuple[float, Future[list[Row]]]] = OrderedDict()

    def rows(self, *queries: Query) -> list[list[Row]]:
        """An answer a query, asked at the same time. Raises ``HistoryUnavailable``."""
        return [answer.result() for answer in self.ask(queries)]

    def ask(self, queries: Sequence[Query]) -> list[Future[list[Row]]]:
        """Begin to ask, unless it is known or being asked already."""
        now_s = time.monotonic()
        answers = []
        with self._lock:
            for query in queries:
                known = self._known.get(query)
                if known is None or known[0] < now_s or _failed(known[1]):
                    until_s = now_s + (_RANGE_S if query.is_of_a_range else _OTHER_S)
                    known = (until_s, self._threads.submit(self._history.rows, query))
                    self._known[query] = known
                    self._known.move_to_end(query)
                answers.append(known[1])
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return answers


def _failed(answer: Future[list[Row]]) -> bool:
    return answer.done() and answer.exception() is not None
