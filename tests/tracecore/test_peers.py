from typing import Any

import pytest

from tests.tracecore.builders import span
from tracecore.peers import Peer, caller_of, peer_of


@pytest.mark.parametrize(
    ("attributes", "peer"),
    [
        # Names of today, and those from before.
        ({"db.system.name": "postgresql", "db.namespace": "quotron"}, Peer("postgresql/quotron", "database")),
        ({"db.system": "mysql", "db.name": "orders"}, Peer("mysql/orders", "database")),
        ({"db.system": "redis", "db.namespace": "0"}, Peer("redis", "database")),
        ({"db.system": "mysql", "peer.service": "orders-db"}, Peer("orders-db", "database")),
        ({"db.system": "mysql", "server.address": "db1", "server.port": 3306}, Peer("mysql", "database")),
        ({"messaging.system": "kafka", "messaging.destination.name": "orders"}, Peer("kafka/orders", "messaging")),
        ({"messaging.system": "kafka", "messaging.destination": "orders"}, Peer("kafka/orders", "messaging")),
        (
            {
                "messaging.system": "rabbitmq",
                "messaging.destination.name": "amq.gen-1",
                "messaging.destination.temporary": True,
            },
            Peer("rabbitmq", "messaging"),
        ),
        (
            {"messaging.system": "aws_sqs", "messaging.destination.name": "q", "messaging.operation": "receive"},
            Peer("aws_sqs/q", "messaging", receives=True),
        ),
        ({"peer.service": "billing", "server.address": "10.0.0.1"}, Peer("billing", "service")),
        ({"service.peer.name": "billing"}, Peer("billing", "service")),
        ({"server.address": "query1.finance.example", "server.port": 443}, Peer("query1.finance.example", "external")),
        ({"net.peer.name": "rates", "net.peer.port": 80}, Peer("rates", "external")),
        ({"http.host": "rates:8080"}, Peer("rates", "external")),
        ({"http.url": "https://user@rates.example:8443/v1?q=1"}, Peer("rates.example", "external")),
        ({"url.full": "http://127.0.0.1:9000/"}, Peer("127.0.0.1:9000", "external")),
        ({"server.address": "localhost", "server.port": 8080}, Peer("localhost:8080", "external")),
        ({"server.address": "10.0.0.7", "rpc.service": "shop.Cart"}, Peer("shop.Cart", "external")),
        ({"net.sock.peer.addr": "10.0.0.7", "net.peer.port": 5000}, Peer("10.0.0.7:5000", "external")),
        # Nothing told, nothing guessed; and nothing that would break.
        ({}, None),
        ({"http.method": "GET", "k" * 300: "long key"}, None),
        ({"url.full": "http://[::1"}, None),
        ({"db.system": ""}, None),
    ],
)  # fmt: skip
def test_peer_that_attributes_tell(attributes: dict[str, Any], peer: Peer | None) -> None:
    assert peer_of(span(attributes=attributes).raw) == peer


def test_server_may_name_its_caller() -> None:
    assert caller_of(span(attributes={"peer.service": "web"}).raw) == "web"
    assert caller_of(span(attributes={"client.address": "10.0.0.1"}).raw) == ""
    assert caller_of(span(attributes={"note": "peer.service is not set"}).raw) == ""


def test_bytes_that_are_no_span_name_no_peer() -> None:
    assert peer_of(b"\xff\xff\xff") is None


@pytest.mark.parametrize(
    "attribute",
    [b"", b"\x0a", b"\x0a\x0cpeer.service\x12\xff", b"\x0a\x0cpeer.service\x12\x03\x0a\x01\xff"],
    ids=["empty", "cut off", "a value that does not parse", "a value of no UTF-8"],
)
def test_an_attribute_that_is_not_one_names_no_peer(attribute: bytes) -> None:
    assert peer_of(b"\x4a" + bytes((len(attribute),)) + attribute) is None
