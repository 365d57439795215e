"""The room's own figures, for /metrics. Names are in docs/api.md."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder


class FeedMetrics:
    """The figures of one feed."""

    def __init__(self, metrics: "Metrics", feed: str) -> None:
        self.subscribers = metrics.subscribers.labels(feed)
        self.events = metrics.events.labels(feed)
        self.deliveries = metrics.deliveries.labels(feed)
        self.undecodable = metrics.undecodable.labels(feed)
        self.behind = metrics.behind.labels(feed)
        self.stuck = metrics.stuck.labels(feed)
        self.delay_s = metrics.delay_s.labels(feed)


class Metrics:
    """All figures, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, help_text: str, *labels: str) -> Counter:
            return Counter(f"tracewatch_live_api_{name}", help_text, labels, registry=registry)

        self.subscribers = Gauge(
            "tracewatch_live_api_subscribers", "Subscribers connected now.", ["feed"], registry=registry
        )
        self.events = counter("events", "Events read from the feed's topic.", "feed")
        self.deliveries = counter("deliveries", "Events written to subscribers who were level with the feed.", "feed")
        self.undecodable = counter("undecodable_records", "Records of the feed's topic that could not be read.", "feed")
        self.behind = counter("subscribers_behind", "Times a subscriber could not keep up.", "feed")
        self.stuck = counter("subscribers_stuck", "Subscribers, and callers over HTTP, cut for doing nothing.", "feed")
        self.refused = counter("refused", "Connections and requests refused, by reason.", "reason")
        self.lag = Gauge(
            "tracewatch_live_api_lag_records",
            "Records of a topic that are there and not read.",
            ["topic"],
            registry=registry,
        )
        self.delay_s = Histogram(
            "tracewatch_live_api_event_delay_seconds",
            "From the record's time in Kafka to the moment it was handed to the subscribers.",
            ["feed"],
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=registry,
        )

    def of_feed(self, feed: str) -> FeedMetrics:
        """The figures of a feed."""
        return FeedMetrics(self, feed)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """All figures in the format that a scraper accepts, and its media type: OpenMetrics has the exemplars."""
        encode, media_type = choose_encoder(accept)
        return encode(self.registry), media_type
