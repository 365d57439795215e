"""How a function is compiled that asks for no memory.

numba counts a reference to each array that a function is given, when it begins and at each of its ends. Those are
atomic additions: they took twice as long as the walk over a span's bytes between them. Who calls holds the arrays
anyway, so functions that make none go without. One that does make an array does not compile with it, nor does one
that calls what does, ``np.argsort`` for one.

What was compiled is kept beside its source and does not notice a change here: touch the sources then.
"""

from typing import Any

from numba import njit

#: numba's own name of it, which its types do not tell of.
_UNCOUNTED: Any = {"_nrt": False}

uncounted: Any = njit(cache=True, nogil=True, **_UNCOUNTED)
