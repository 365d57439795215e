"""All compiled code that a worker uses, in one place: ``python -m stream.compiled`` compiles it at installation."""

from tracecore import batch_analysis, batch_decoding


def warm_up() -> bool:
    """Compile, or load what was compiled; False if there is nothing to compile with. Takes seconds the first time."""
    return batch_decoding.warm_up() and batch_analysis.warm_up()


if __name__ == "__main__":
    warm_up()
