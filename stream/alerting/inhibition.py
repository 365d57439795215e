"""Which alerts hold others down: a cause that fires speaks for those that suffer from it."""

from collections.abc import Iterable

from stream.alerting.episode import Episode
from tracecore.finding import FindingKind

#: How long a service's evidence is held back while a cause fires that names it: its own explanation may still come.
HOLD_NS = 10 * 1_000_000_000

#: What a firing alert of a kind explains in the services it impacts.
EXPLAINS: dict[str, tuple[FindingKind, ...]] = {
    "error": ("error", "error_rate"),
    "error_rate": ("error_rate",),
    "latency_shift": ("latency_shift", "slow_span"),
}


def inhibitor(target: Episode, episodes: Iterable[Episode]) -> Episode | None:
    """The firing episode that explains ``target``, the oldest if several do; None if it speaks for itself."""
    service, kind = target.labels["service"], target.labels["kind"]
    found = [
        episode
        for episode in episodes
        if episode.status == "firing"
        and episode is not target
        and episode.labels["service"] != service
        and service in episode.impacted
        and kind in EXPLAINS.get(episode.labels["kind"], ())
    ]
    return min(found, key=lambda episode: (episode.starts_at_ns, episode.fingerprint), default=None)


def is_held_back(target: Episode, episodes: Iterable[Episode], now_ns: int) -> bool:
    """True if ``target`` must not fire now. An error of its own is believed once nothing explained it for a while."""
    if inhibitor(target, episodes) is None:
        return False
    return target.labels["kind"] != "error" or now_ns - target.first_arrival_ns < HOLD_NS
