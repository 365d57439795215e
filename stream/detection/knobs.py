"""Every knob of detection: one set for all services, and for a service whatever is set for it alone.

None has to be set. What a knob governs is told where its dataclass stands.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stream.detection.dependencies import DependencySettings
from stream.detection.latency import LatencySettings
from stream.detection.rates import RateSettings
from stream.detection.slow_spans import SlowSpanSettings


@dataclass(frozen=True, slots=True)
class Knobs:
    """The settings of every detector, as they are for one service."""

    latency: LatencySettings = field(default_factory=LatencySettings)
    rates: RateSettings = field(default_factory=RateSettings)
    dependencies: DependencySettings = field(default_factory=DependencySettings)
    slow_spans: SlowSpanSettings = field(default_factory=SlowSpanSettings)


@dataclass(frozen=True, slots=True)
class Tuning:
    """``common`` for every service that has no knobs of its own. A hop is its callee's, a dependency its caller's."""

    common: Knobs = field(default_factory=Knobs)
    services: Mapping[str, Knobs] = field(default_factory=dict)

    def of(self, service: str) -> Knobs:
        """The knobs of a service."""
        return self.services.get(service, self.common)
