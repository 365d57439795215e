"""All compiled code that a worker uses, in one place: ``python -m stream.compiled`` compiles it at installation."""

import logging
import threading

from tracecore import batch_analysis, batch_decoding

try:
    from stream import open_traces, record_batches, routing, window_tally
    from stream.detection import usual_spans
except (ImportError, RuntimeError):  # no numba, or no place for what it compiles: a matter of speed alone
    open_traces = record_batches = routing = window_tally = usual_spans = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

_is_warming = threading.Event()


def warm_up() -> bool:
    """Compile, or load what was compiled; False if there is nothing to compile with. Takes seconds the first time."""
    if open_traces is None:
        return False
    for module in (open_traces, record_batches, routing, window_tally, usual_spans):
        module.warm_up()
    return batch_decoding.warm_up() and batch_analysis.warm_up()


def warm_up_beside() -> None:
    """The same, in a thread of its own, for there is the broker to wait for meanwhile."""
    _is_warming.set()
    threading.Thread(target=_warm_up_and_tell, name="compiler", daemon=True).start()


def is_warming() -> bool:
    """True while compiled code may soon be there: who begins without it stays without it."""
    return _is_warming.is_set()


def _warm_up_and_tell() -> None:
    try:
        if warm_up():
            logger.info("analysis of traces is compiled")
        else:
            logger.warning("analysis of traces is not compiled: numba is missing, or NUMBA_CACHE_DIR cannot be written")
    finally:
        _is_warming.clear()


if __name__ == "__main__":
    warm_up()
