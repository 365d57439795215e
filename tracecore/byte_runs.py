"""How compiled code reads and copies bytes: eight at a time, for most runs of bytes are short.

What was compiled does not notice a change here: ``make`` compiles all of it again then.
"""

import numpy as np

from tracecore.compiling import uncounted


@uncounted
def eight_bytes(b, at):
    """As a number, the last first, as this processor has them in memory; at least eight must be there.

    Written out, and with places that cannot be negative, the compiler makes one load of it.
    """
    k = np.uint64(at)
    return (
        np.uint64(b[k])
        | np.uint64(b[k + np.uint64(1)]) << np.uint64(8)
        | np.uint64(b[k + np.uint64(2)]) << np.uint64(16)
        | np.uint64(b[k + np.uint64(3)]) << np.uint64(24)
        | np.uint64(b[k + np.uint64(4)]) << np.uint64(32)
        | np.uint64(b[k + np.uint64(5)]) << np.uint64(40)
        | np.uint64(b[k + np.uint64(6)]) << np.uint64(48)
        | np.uint64(b[k + np.uint64(7)]) << np.uint64(56)
    )


@uncounted
def copied(out, o, source, start, end):
    """Copy bytes to ``o``; where they end there. The last eight may be some of those before again."""
    size = end - start
    if size < 8:
        for k in range(size):
            out[np.uint64(o + k)] = source[np.uint64(start + k)]
        return o + size
    for k in range(0, size - 8, 8):
        _put_eight(out, o + k, eight_bytes(source, start + k))
    _put_eight(out, o + size - 8, eight_bytes(source, end - 8))
    return o + size


@uncounted
def _put_eight(out, o, value):
    # All are read before the first is written, so the compiler makes one store of it.
    for k in range(8):
        out[np.uint64(o) + np.uint64(k)] = np.uint8(value >> np.uint64(8 * k))
