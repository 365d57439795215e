"""A system of services that is observed window by window: the windows a worker would tell of it, without the worker."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from stream.detection.round_merger import WholeWindow
from tracecore.buckets import Buckets, bucket_of
from tracecore.span import SpanKind
from tracecore.window import WINDOW_NS, HopWindow, OperationWindow

MS = 1_000_000
START_NS = 1_700_000_000 * 1_000_000_000 // WINDOW_NS * WINDOW_NS


@dataclass
class System:
    """A gateway that calls cart and payment, and cart that calls a store; lognormal times, Poisson counts.

    ``own_factor`` and ``gap_factor`` (by callee) slow things down, ``rate`` is requests a window, ``failing`` the share
    of a service's requests that fail.
    """

    rate: float = 50.0
    own_factor: dict[str, float] = field(default_factory=dict)
    gap_factor: dict[str, float] = field(default_factory=dict)
    failing: dict[str, float] = field(default_factory=dict)
    cut: set[tuple[str, str]] = field(default_factory=set)
    seed: int = 1
    hops: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"gateway": ("cart", "payment", "search"), "cart": ("store",)}
    )

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.end_ns = START_NS

    def window(self, *, is_whole: bool = True, skipped: int = 0) -> WholeWindow:
        """The next ten seconds."""
        self.end_ns += WINDOW_NS * (1 + skipped)
        operations: dict[tuple[str, str, int], OperationWindow] = {}
        hops: dict[tuple[str, str, str], HopWindow] = {}
        counts = {"gateway": self._poisson(self.rate)}
        for caller, callees in self.hops.items():
            for callee in callees:
                if (caller, callee) in self.cut or not counts.get(caller):
                    continue
                counts[callee] = counts[caller]
                gaps = self._times(counts[caller], 2 * MS * self.gap_factor.get(callee, 1.0))
                key = (caller, callee, "op")
                hops[key] = HopWindow(
                    self.end_ns - WINDOW_NS, *key, -1, counts[callee], counts[callee] * 1000, 0, gaps, gaps, "a" * 32
                )
        for service, count in counts.items():
            if not count:
                continue
            own = self._times(count, 20 * MS * self.own_factor.get(service, 1.0))
            failed = sum(self.random.random() < self.failing.get(service, 0.0) for _ in range(count))
            operation = (service, "op", int(SpanKind.SERVER))
            operations[operation] = OperationWindow(
                self.end_ns - WINDOW_NS, *operation, -1, count, count * 1000, failed * 1000, own, own, "b" * 32
            )
        return WholeWindow(self.end_ns, self.end_ns + WINDOW_NS, operations, hops, is_whole, skipped)

    def _times(self, count: int, median_ns: float) -> Buckets:
        buckets: Buckets = {}
        for _ in range(count):
            bucket = bucket_of(int(median_ns * self.random.lognormvariate(0, 0.4)))
            buckets[bucket] = buckets.get(bucket, 0) + 1000
        return buckets

    def _poisson(self, mean: float) -> int:
        if mean > 50:
            return max(round(self.random.gauss(mean, math.sqrt(mean))), 0)
        limit, product, count = math.exp(-mean), self.random.random(), 0
        while product > limit:
            product *= self.random.random()
            count += 1
        return count
