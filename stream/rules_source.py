"""The rules file as it is now: read at start, where a bad one stops it, and again whenever it has changed."""

import logging
from pathlib import Path

from stream.alerting.rules_file import RuleBook, read_rules
from tracecore.errors import TracewatchError

logger = logging.getLogger(__name__)


class RulesSource:
    """What the file says; the built-in rules if there is none."""

    def __init__(self, path: Path | None) -> None:
        """Raises ``BadRules``."""
        self._path = path
        self._modified = self._modified_at()
        self.book = read_rules(path) if path else RuleBook()

    def has_changed(self) -> bool:
        """Read the file again if it was changed; True if there is a new book. A bad one leaves the old in force."""
        modified = self._modified_at()
        if self._path is None or modified is None or modified == self._modified:
            return False
        self._modified = modified
        try:
            self.book = read_rules(self._path)
        except TracewatchError as error:
            logger.error("the rules stay as they were: %s", error)
            return False
        logger.info("read %d rules from %s", len(self.book.rules), self._path)
        return True

    def _modified_at(self) -> tuple[int, int] | None:
        """Time and inode: a file that is replaced by an older one has changed, too."""
        try:
            state = self._path.stat() if self._path else None
        except OSError:
            return None
        return (state.st_mtime_ns, state.st_ino) if state else None
