"""Silences: what was asked for, what holds now. The topic keeps them; this is its last word on each."""

from collections.abc import Iterable
from dataclasses import replace

from live_api.errors import InvalidParameter, NotFound
from tracecore.silence import Matcher, Silence

MAX_ACTIVE = 1000
_MAX_DURATION_NS = 366 * 86_400 * 1_000_000_000
_MAX_MATCHERS = 20
_MAX_TEXT = 256
#: An expired silence is shown for so long.
_SHOWN_NS = 5 * 86_400 * 1_000_000_000


class Silences:
    """All silences by id."""

    def __init__(self) -> None:
        self._by_id: dict[str, Silence] = {}

    def observe(self, silence: Silence) -> None:
        """Take the next record of the topic; an older word on the same silence changes nothing."""
        known = self._by_id.get(silence.silence_id)
        if known is None or known.updated_at_ns <= silence.updated_at_ns:
            self._by_id[silence.silence_id] = silence

    def clear(self) -> None:
        """The topic was made anew."""
        self._by_id.clear()

    def shown(self, now_ns: int) -> list[Silence]:
        """Those that hold, will hold, or held of late; the newest first."""
        kept = [each for each in self._by_id.values() if each.ends_at_ns > now_ns - _SHOWN_NS]
        return sorted(kept, key=lambda each: (-each.starts_at_ns, each.silence_id))

    def created(self, silence: Silence, now_ns: int) -> Silence:
        """The silence, if it may be. Raises ``InvalidParameter``."""
        check_silence(silence, now_ns)
        if sum(each.ends_at_ns > now_ns for each in self._by_id.values()) >= MAX_ACTIVE:
            raise InvalidParameter("matchers", f"there are {MAX_ACTIVE} silences already; expire some")
        return silence

    def expired(self, silence_id: str, now_ns: int) -> Silence:
        """The silence with its end now; as it is, if it has ended already. Raises ``NotFound``."""
        known = self._by_id.get(silence_id)
        if known is None:
            raise NotFound("there is no such silence")
        if known.ends_at_ns <= now_ns:
            return known
        return replace(known, starts_at_ns=min(known.starts_at_ns, now_ns), ends_at_ns=now_ns, updated_at_ns=now_ns)


def check_silence(silence: Silence, now_ns: int) -> None:
    """Raise ``InvalidParameter`` for a silence that mutes nothing, everything, or for too long."""
    if not 0 < len(silence.matchers) <= _MAX_MATCHERS:
        raise InvalidParameter("matchers", f"must be 1 to {_MAX_MATCHERS}")
    for matcher in silence.matchers:
        if not matcher.is_valid:
            raise InvalidParameter(
                "matchers", f"{matcher.name[:64]!r} {matcher.op} {matcher.value[:64]!r} cannot be used"
            )
    if all(matcher.matches({}) for matcher in silence.matchers):
        raise InvalidParameter("matchers", "one of them must need a label, else every alert is silenced")
    if silence.ends_at_ns <= max(silence.starts_at_ns, now_ns):
        raise InvalidParameter("ends_at", "must lie in the future, after starts_at")
    if silence.ends_at_ns - silence.starts_at_ns > _MAX_DURATION_NS:
        raise InvalidParameter("ends_at", "must not lie more than a year after starts_at")
    for name, text in (*_texts(silence.matchers), ("created_by", silence.created_by), ("comment", silence.comment)):
        if len(text) > _MAX_TEXT or any("\ud800" <= character <= "\udfff" for character in text):
            raise InvalidParameter(name, f"must be text of {_MAX_TEXT} characters at most")


def _texts(matchers: Iterable[Matcher]) -> Iterable[tuple[str, str]]:
    for matcher in matchers:
        yield "matchers", matcher.name
        yield "matchers", matcher.value
