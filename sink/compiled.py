"""The compiled making of rows, loaded when there is load: a quiet sink, a demo, a test never pays for it.

Numba compiles for a minute the first time on a machine, on a thread of its own, and keeps what it compiled beside the
source or in the user's cache. Until then, and without numba, the reference makes the rows. ``python -m sink.compiled``
compiles it at installation.
"""

import logging
import threading
import time

from sink.packed import Packing
from tracecore.redaction import BUILT_IN, Redaction

logger = logging.getLogger(__name__)


class CompiledCode:
    """``packing`` is None until the code is there."""

    def __init__(self, redaction: Redaction, is_allowed: bool) -> None:
        self.packing: Packing | None = None
        self._redaction = redaction
        # A pattern of the settings may match any text, which the compiled code cannot tell.
        self._is_allowed = is_allowed and not redaction.has_patterns
        self._is_waited_for = False

    def wanted(self) -> None:
        """Load it on a thread of its own, unless that was begun before."""
        if self._is_allowed and not self._is_waited_for:
            self._is_waited_for = True
            threading.Thread(target=self.load, name="compile", daemon=True).start()

    def load(self) -> None:
        """Load it, if settings and installation let it."""
        if not self._is_allowed:
            return
        began_s = time.monotonic()
        try:
            from sink.packer import Packer
        except (ImportError, RuntimeError) as error:  # no numba, or no place for what it compiles
            logger.info("rows are made by plain Python: %s", error)
            return
        self.packing = Packer(self._redaction)
        logger.info("rows are made by compiled code, loaded in %.1f s", time.monotonic() - began_s)


if __name__ == "__main__":
    CompiledCode(BUILT_IN, is_allowed=True).load()
