"""Which ports the demo's servers take: the usual ones where they are free, others where not."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from quickstart.errors import NotAvailable
from quickstart.process import free_port, is_port_free

#: What people expect to find where. Kafka and PostgreSQL stand beside their usual ports, which are often taken.
USUAL_PORTS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "kafka": 19092,
        "postgres": 15432,
        "dashboard": 8501,
        "live_api": 8600,
        "gateway": 4318,
        "stream": 6066,
        "sink": 6067,
        "api_service": 8701,
        "yahoo_finance_proxy": 8702,
        "network": 8703,
    }
)


def chosen_ports(asked_for: Mapping[str, int | None]) -> dict[str, int]:
    """A free port for each server. Raises NotAvailable when one that was ``asked_for`` by number is taken."""
    ports: dict[str, int] = {}
    for name, asked in asked_for.items():
        if asked is None:
            continue
        if asked in ports.values() or not is_port_free(asked):
            option = f"--{name.replace('_', '-')}-port"
            raise NotAvailable(f"port {asked} is in use; give {option} another, or leave it out to take a free one")
        ports[name] = asked
    for name, usual in USUAL_PORTS.items():
        if name not in ports:
            is_free = usual not in ports.values() and is_port_free(usual)
            ports[name] = usual if is_free else _other_port(ports)
    return ports


def _other_port(taken: Mapping[str, int]) -> int:
    while (port := free_port()) in taken.values():
        pass
    return port
