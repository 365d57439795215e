"""The other side of a call, as the caller's span names it: a database, a broker, a service that sends no spans.

Attributes are the dearest part of a span, so they are not decoded: the few keys that matter are cut out of the bytes,
and what they mean is remembered, since a service has few peers.

Source: OpenTelemetry semantic conventions, the names of today and those of v1.4 to v1.25 that are still sent; the
name of a database or topic as "system/name" follows Elastic APM.
"""

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_address
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from tracecore.otlp import attribute_bytes, value_of

PeerType = Literal["service", "database", "messaging", "external"]


class Peer(NamedTuple):
    """Who is on the other side. ``receives``: the span took something from it, so the call came from there."""

    name: str
    type: PeerType
    receives: bool = False


_SERVICE = ("service.peer.name", "peer.service")
_DATABASE = ("db.system.name", "db.system")
_NAMESPACE = ("db.namespace", "db.name")
_MESSAGING = ("messaging.system",)
_DESTINATION = ("messaging.destination.name", "messaging.destination", "messaging.kafka.topic")
_TEMPORARY = ("messaging.destination.temporary", "messaging.destination.anonymous", "messaging.temp_destination")
_OPERATION = ("messaging.operation.type", "messaging.operation")
_ADDRESS = ("server.address", "net.peer.name", "http.host")
_PORT = ("server.port", "net.peer.port")
_URL = ("url.full", "http.url")
_RPC = ("rpc.service",)
_NETWORK_ADDRESS = ("network.peer.address", "net.sock.peer.addr", "net.peer.ip")

#: Keys that tell something of a peer, as protobuf writes them. ``http.host`` is the server's
#: own on a server's span; only spans that call are asked.
KEYS = frozenset(
    key.encode()
    for names in (
        _SERVICE, _DATABASE, _NAMESPACE, _MESSAGING, _DESTINATION, _TEMPORARY, _OPERATION, _ADDRESS, _PORT, _URL,
        _RPC, _NETWORK_ADDRESS,
    )
    for key in names
)  # fmt: skip
_RECEIVING_OPERATIONS = ("receive", "process", "deliver", "settle")
_LOCAL_NAMES = ("localhost", "localhost.localdomain")


def peer_of(raw: bytes) -> Peer | None:
    """The peer that a span names; None if it names none. ``raw`` is OTLP's Span message."""
    # An attribute may be empty, and what stands in it may not parse: decoding a span does not look inside.
    telling = [pair for pair in attribute_bytes(raw) if pair[1:2] and pair[2 : 2 + pair[1]] in KEYS]
    return peer_of_pairs(tuple(telling)) if telling else None


def caller_of(raw: bytes) -> str:
    """The service that a server's span names as its caller; empty if none."""
    # Almost none does: a search through the bytes is all that most spans cost.
    if b"peer.service" not in raw and b"service.peer.name" not in raw:
        return ""
    peer = peer_of(raw)
    return peer.name if peer is not None and peer.type == "service" else ""


@lru_cache(maxsize=8192)
def peer_of_pairs(pairs: tuple[bytes, ...]) -> Peer | None:
    """The peer of a span whose attributes with ``KEYS`` are ``pairs``: OTLP's KeyValue messages, in their order."""
    said = dict(_texts(pairs))

    def first(names: tuple[str, ...]) -> str:
        return next((said[name] for name in names if said.get(name)), "")

    named, messaging, database = first(_SERVICE), first(_MESSAGING), first(_DATABASE)
    if messaging:
        destination = "" if first(_TEMPORARY) == "True" else first(_DESTINATION)
        broker = named or (f"{messaging}/{destination}" if destination else messaging)
        return Peer(broker, "messaging", first(_OPERATION) in _RECEIVING_OPERATIONS)
    if database:
        namespace = first(_NAMESPACE)
        # Redis numbers its databases: nobody knows them by number.
        return Peer(
            named or (f"{database}/{namespace}" if namespace and not namespace.isdigit() else database), "database"
        )
    if named:
        return Peer(named, "service")
    address, port = first(_ADDRESS), first(_PORT)
    if not address and first(_URL):
        address, port = _host_and_port(first(_URL))
    elif address.count(":") == 1:
        address, _, port = address.partition(":")
    # A name says who it is. A bare address says less than the RPC service, and needs its port.
    if address and not _is_bare(address):
        return Peer(address, "external")
    if said.get("rpc.service"):
        return Peer(said["rpc.service"], "external")
    address = address or first(_NETWORK_ADDRESS)
    if address:
        return Peer(f"{address}:{port}" if port else address, "external")
    return None


def _texts(pairs: tuple[bytes, ...]) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        try:
            message = KeyValue.FromString(pair)
        except DecodeError:
            continue
        yield message.key, str(value_of(message.value))


def _host_and_port(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
        return parts.hostname or "", str(parts.port or "")
    except ValueError:
        return "", ""


def _is_bare(address: str) -> bool:
    if address.lower() in _LOCAL_NAMES:
        return True
    try:
        ip_address(address)
    except ValueError:
        return False
    return True
