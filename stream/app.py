"""The Faust app: which agents there are, and how they are wired. Everything else has a module of its own."""

import atexit
import gc
import logging
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

import faust
from yarl import URL

from stream import alerting_agents, detection_agents, transport
from stream.metrics import Metrics
from stream.outlet import Outlet
from stream.pipeline import Rules
from stream.router_agent import RouterAgent
from stream.settings import StreamSettings
from stream.span_agent import SpanAgent
from stream.status_pages import add_status_pages
from tracecore.settings import KafkaSettings

logger = logging.getLogger(__name__)

#: There is next to nothing to collect, fifteen objects a second and none of them a span's; but to look at those of the
#: spans that are held took 0.5 us for each. So more than a worker holds by default must have been added.
GC_THRESHOLDS = (1_000_000, 50, 1000)


def create_app(kafka: KafkaSettings, settings: StreamSettings, partitions: int) -> faust.App:
    """The app of one worker; ``partitions`` is how many the topic of spans has. Starts nothing."""
    topics = kafka.topics
    source_topic = settings.source_topic or topics.spans
    is_replay = source_topic == topics.replay
    app = faust.App(
        settings.app_id or f"{kafka.topic_prefix}{'replay-stream' if is_replay else 'stream'}",
        broker=[URL(f"kafka://{server.strip()}") for server in kafka.bootstrap_servers.split(",")],
        **_security(kafka),
        key_serializer="raw",
        value_serializer="raw",
        store="memory://",
        datadir=settings.data_dir or _temporary_dir(),
        topic_partitions=partitions,
        topic_replication_factor=kafka.replication_factor,
        topic_disable_leader=True,
        # Tables are small here: a standby would only make each rebalance longer.
        table_standby_replicas=0,
        consumer_auto_offset_reset="earliest",
        # Held spans must not hold up a rebalance or a stop; large buffers, for a rebalance clears them.
        stream_wait_empty=False,
        stream_buffer_maxsize=4096,
        # Of each partition. Fetches cost by their number, and what is fetched of few partitions is soon read.
        consumer_max_fetch_size=2 * 1024 * 1024,
        broker_commit_interval=settings.commit_interval_s,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 5,
        producer_linger=settings.linger_s,
        producer_max_batch_size=262_144,
        producer_max_request_size=8_000_000,
        producer_compression_type=settings.compression or None,
        web_host=settings.host,
        web_bind=settings.host,
        web_port=settings.port or _free_port(settings.host),
        autodiscover=False,
    )
    transport.install(app, read_together={source_topic, topics.otlp_spans})
    outlet = Outlet(app, settings.linger_s)
    detection = detection_agents.attach(app, topics, kafka)
    alerting_agents.attach(
        app, topics, kafka, replay=is_replay, replay_id=settings.replay_id, notify=settings.replay_notify
    )
    rules = Rules(topics, settings.limits, settings.window_limits, settings.sampling, partitions)
    spans = SpanAgent(
        app,
        outlet,
        rules,
        detection.hooks_for,
        source_topic=source_topic,
        memory_spans=settings.memory_spans,
        only_replay=settings.replay_id,
    )
    spans.attach(settings.commit_interval_s)
    router = None
    if settings.router and not is_replay:
        router = RouterAgent(app, outlet, topics, partitions)
        router.attach(settings.commit_interval_s)
    metrics = Metrics(spans, router, outlet)
    add_status_pages(app, metrics, stalled_s=settings.stalled_s)
    gc.set_threshold(*GC_THRESHOLDS)
    return app


def _temporary_dir() -> Path:
    """A directory that goes when the process ends; a worker that is killed leaves it behind, nearly empty."""
    folder = tempfile.mkdtemp(prefix="tracewatch-stream-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _security(kafka: KafkaSettings) -> dict[str, Any]:
    if kafka.security_protocol.startswith("SASL_"):
        password = kafka.sasl_password.get_secret_value() if kafka.sasl_password else None
        ssl_context = kafka.client_options().get("ssl_context")
        credentials = faust.SASLCredentials(
            mechanism=kafka.sasl_mechanism, username=kafka.sasl_username, password=password, ssl_context=ssl_context
        )
        credentials.protocol = faust.types.auth.AuthProtocol(kafka.security_protocol)
        return {"broker_credentials": credentials}
    if kafka.security_protocol == "SSL":
        return {"broker_credentials": faust.SSLCredentials(context=kafka.client_options()["ssl_context"])}
    return {}
