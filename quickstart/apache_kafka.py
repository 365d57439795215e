"""A real Apache Kafka without Docker: its Maven Central artifacts on Java, one node in KRaft mode.

The jars (43 MB) are fetched once by Maven into the user's cache. The node keeps its log directory, node id and port
over `kill`, `stop` and `start` of one instance, so a test can crash the broker and bring it back; `close` deletes it.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from ssl import SSLContext
from typing import Final
from uuid import uuid4

from quickstart.errors import NotAvailable, QuickstartError
from quickstart.kafka_protocol import broker_answers
from quickstart.process import ManagedProcess, free_port
from quickstart.service import Service

# As in the pom beside this file.
VERSION: Final = "4.1.1"
POM: Final = Path(__file__).with_name("apache_kafka.pom.xml")
MINIMUM_JAVA: Final = 17
FETCH_TIMEOUT_S: Final = 600.0
# One node of tests and demos; Kafka's own default is 1 GiB.
HEAP_MB: Final = 384

_CONFIGURATION: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENTS://127.0.0.1:{port}
inter.broker.listener.name=CLIENTS
listener.security.protocol.map=CLIENTS:{security_protocol},CONTROLLER:PLAINTEXT
log.dirs={log_dir}
# A mistyped topic is an error, not a new topic.
auto.create.topics.enable=false
# One node: nothing to replicate to.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
# A group of a test should not wait three seconds for members that never come.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# A crashed node may come back under its id once its old session is over; nine seconds is Kafka's own.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=4194304
"""


class ApacheKafka(Service):
    """One Apache Kafka node, broker and controller, on 127.0.0.1."""

    kind: Final = "apache"
    title = "Apache Kafka (one node, KRaft)"
    ready_timeout_s = 90.0

    def __init__(
        self,
        *,
        log_path: Path,
        port: int | None = None,
        heap_mb: int = HEAP_MB,
        configuration: str = "",
        security_protocol: str = "PLAINTEXT",
        ssl_context: SSLContext | None = None,
        scram_passwords: Mapping[str, str] | None = None,
    ) -> None:
        """``configuration`` is more lines of server.properties. Raises NotAvailable without Java or Maven.

        ``security_protocol`` is what its one listener speaks; ``configuration`` has the certificates and mechanisms
        for it, ``ssl_context`` is what we ask it with whether it is ready. ``scram_passwords``, by user, are made
        before the first start.
        """
        self.port = port or free_port()
        self._java = _java()
        self._classpath = str(library() / "*")
        self._home = Path(tempfile.mkdtemp(prefix="tracewatch-kafka-"))
        self._properties = self._home / "server.properties"
        self._properties.write_text(
            _CONFIGURATION.format(
                port=self.port,
                controller_port=free_port(),
                log_dir=self._home / "log",
                security_protocol=security_protocol,
            )
            + configuration
        )
        self._properties.chmod(0o600)  # it may hold passwords
        self._ssl_context = ssl_context
        self._scram_passwords = dict(scram_passwords or {})
        self.process = ManagedProcess(
            "Apache Kafka",
            [
                self._java,
                f"-Xms{min(128, heap_mb)}m",
                f"-Xmx{heap_mb}m",
                "-XX:+UseSerialGC",
                "-Xshare:auto",
                "-Djava.awt.headless=true",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-Dorg.slf4j.simpleLogger.showDateTime=true",
                "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
                "-cp",
                self._classpath,
                "kafka.Kafka",
                str(self._properties),
            ],
            log_path=log_path,
        )

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log_dir(self) -> Path:
        """Where its topics lie, a folder a partition."""
        return self._home / "log"

    def prepare(self) -> None:
        """Format the log directory, once: a node that starts again finds its data."""
        if not self.log_dir.exists():
            self._format()

    def is_ready(self) -> bool:
        return broker_answers(self.port, ssl_context=self._ssl_context)

    def close(self) -> None:
        """End it at once and delete its data."""
        self.process.kill()
        shutil.rmtree(self._home, ignore_errors=True)

    def _format(self) -> None:
        outcome = subprocess.run(
            [
                self._java,
                "-Xshare:auto",
                "-XX:TieredStopAtLevel=1",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
                *("-cp", self._classpath, "kafka.tools.StorageTool", "format"),
                # With "=": an id may begin with a dash.
                *(f"--cluster-id={_cluster_id()}", "--config", str(self._properties)),
                *(
                    f"--add-scram={mechanism}=[name={user},password={password}]"
                    for user, password in self._scram_passwords.items()
                    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
                ),
            ],
            capture_output=True,
            text=True,
            timeout=self.ready_timeout_s,
            check=False,
        )
        if outcome.returncode != 0:
            raise QuickstartError(f"Apache Kafka could not format its log directory:\n{outcome.stdout}{outcome.stderr}")


def library() -> Path:
    """The folder of Kafka's jars, fetched once by Maven into the user's cache.

    Raises NotAvailable when Maven is missing or cannot fetch them.
    """
    folder = _cache_folder() / f"apache-kafka-{VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # One process fetches: Maven's own repository is not made for two at once.
    with Path(folder.parent, ".fetching").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _fetch(folder)
    return folder


def _fetch(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise NotAvailable("Apache Kafka without Docker needs Maven to fetch it once: apt-get install maven")
    # Beside its final place, then renamed: a fetch that was cut off is never taken for a whole one.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as fetching:
        try:
            outcome = subprocess.run(
                [
                    *(maven, "--batch-mode", "--quiet", "--file", str(POM)),
                    *("dependency:copy-dependencies", "-DincludeScope=runtime"),
                    f"-DoutputDirectory={fetching}/lib",
                ],
                capture_output=True,
                text=True,
                timeout=FETCH_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise NotAvailable(f"Maven did not fetch Apache Kafka within {FETCH_TIMEOUT_S:g} s") from error
        if outcome.returncode != 0:
            tail = "\n".join((outcome.stdout + outcome.stderr).splitlines()[-10:])
            raise NotAvailable(f"Maven could not fetch Apache Kafka; is Maven Central reachable?\n{tail}")
        Path(fetching, "lib").rename(folder)


def unavailable_reason() -> str | None:
    """Why Apache Kafka cannot run here, or None when it can (as far as can be told without fetching it)."""
    try:
        _java()
        if not (_cache_folder() / f"apache-kafka-{VERSION}").is_dir() and shutil.which("mvn") is None:
            return "Maven is not installed (apt-get install maven)"
    except NotAvailable as error:
        return str(error)
    return None


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tracewatch"


def _java() -> str:
    java = shutil.which("java")
    remedy = f"Apache Kafka needs Java {MINIMUM_JAVA} or later: apt-get install openjdk-17-jre-headless"
    if java is None:
        raise NotAvailable(f"Java is not installed. {remedy}")
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    version = said.partition('"')[2].partition('"')[0]
    major = version.partition(".")[0]
    if not major.isdigit() or int(major) < MINIMUM_JAVA:
        raise NotAvailable(f"{java} is version {version or 'unknown'}. {remedy}")
    return java


def _cluster_id() -> str:
    return urlsafe_b64encode(uuid4().bytes).rstrip(b"=").decode()
