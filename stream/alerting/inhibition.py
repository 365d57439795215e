"""Which alerts hold others down: a cause that fires speaks for those that suffer from it."""

from collections.abc import Iterable

from stream.alerting.episode import Episode
from tracecore.finding import FindingKind

#: How long a service's evidence is held back while a cause fires that names it: its own explanation may still come.
HOLD_NS = 10 * 1_000_000_000

#: For how long after it was last seen a cause explains slow spans, which are told as they happen: it fires a while
#: longer than it lasts. What lasts is seen every ten seconds, and up to twenty late.
LASTS_NS = 30 * 1_000_000_000

#: What a firing alert of a kind explains in the services it impacts.
EXPLAINS: dict[str, tuple[FindingKind, ...]] = {
    "error": ("error", "error_rate"),
    "error_rate": ("error_rate",),
    "latency_shift": ("latency_shift", "slow_span"),
}


def inhibitor(target: Episode, episodes: Iterable[Episode]) -> Episode | None:
    """The firing episode that explains ``target``, the oldest if several do; None if it speaks for itself."""
    service = target.labels["service"]
    found = [
        episode
        for episode in episodes
        if episode.status == "firing"
        and episode is not target
        and episode.labels["service"] != service
        and service in episode.impacted
        and _explains(episode, target)
    ]
    return min(found, key=lambda episode: (episode.starts_at_ns, episode.fingerprint), default=None)


def is_held_back(target: Episode, episodes: Iterable[Episode], now_ns: int) -> bool:
    """True if ``target`` must not fire now. An error of its own is believed once nothing explained it for a while."""
    if inhibitor(target, episodes) is None:
        return False
    return target.labels["kind"] != "error" or now_ns - target.first_arrival_ns < HOLD_NS


def _explains(cause: Episode, target: Episode) -> bool:
    kind = target.labels["kind"]
    if kind not in EXPLAINS.get(cause.labels["kind"], ()):
        return False
    return kind != "slow_span" or target.last_arrival_ns - cause.last_arrival_ns < LASTS_NS
