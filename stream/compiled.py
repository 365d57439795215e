"""All compiled code that a worker uses, in one place: ``python -m stream.compiled`` compiles it at installation."""

from tracecore import batch_analysis, batch_decoding

try:
    from stream import routing, window_tally
    from stream.detection import usual_spans
except (ImportError, RuntimeError):  # no numba, or no place for what it compiles: a matter of speed alone
    routing = window_tally = usual_spans = None  # type: ignore[assignment]


def warm_up() -> bool:
    """Compile, or load what was compiled; False if there is nothing to compile with. Takes seconds the first time."""
    if window_tally is None:
        return False
    routing.warm_up()
    window_tally.warm_up()
    usual_spans.warm_up()
    return batch_decoding.warm_up() and batch_analysis.warm_up()


if __name__ == "__main__":
    warm_up()
