"""The silences in force, as their topic told them: of two of one id, the later holds."""

from collections.abc import Mapping

from tracecore.silence import Silence


class Silences:
    """All silences; those that are over are forgotten when asked to."""

    def __init__(self) -> None:
        self._silences: dict[str, Silence] = {}

    def observe(self, silence: Silence) -> None:
        """Take a silence in, or a later word on one."""
        known = self._silences.get(silence.silence_id)
        if known is None or known.updated_at_ns <= silence.updated_at_ns:
            self._silences[silence.silence_id] = silence

    def muting(self, labels: Mapping[str, str], now_ns: int) -> Silence | None:
        """The silence that mutes an alert with these labels now, the first by id if several do; or None."""
        found = (silence for _, silence in sorted(self._silences.items()) if silence.mutes(labels, now_ns))
        return next(found, None)

    def forget_expired(self, now_ns: int) -> None:
        """Drop what is over."""
        self._silences = {name: one for name, one in self._silences.items() if one.ends_at_ns > now_ns}
