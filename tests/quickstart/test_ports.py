"""Ports: the usual one where it is free, another where not, and no surprise where one was asked for."""

import socket

import pytest

from quickstart import ports
from quickstart.errors import NotAvailable
from quickstart.process import free_port


def test_a_usual_port_that_is_taken_is_replaced_by_a_free_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        usual = {"dashboard": taken.getsockname()[1], "sink": free_port()}
        monkeypatch.setattr(ports, "USUAL_PORTS", usual)
        chosen = ports.chosen_ports({})
    assert chosen["sink"] == usual["sink"]
    assert chosen["dashboard"] != usual["dashboard"]


def test_a_port_that_was_asked_for_twice_is_refused() -> None:
    port = free_port()
    with pytest.raises(NotAvailable, match=f"port {port} is in use; give --gateway-port"):
        ports.chosen_ports({"dashboard": port, "gateway": port})


def test_a_port_that_was_asked_for_is_not_given_to_whose_usual_port_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = {"dashboard": free_port(), "sink": free_port()}
    monkeypatch.setattr(ports, "USUAL_PORTS", usual)
    chosen = ports.chosen_ports({"sink": usual["dashboard"], "dashboard": None})
    assert chosen["sink"] == usual["dashboard"]
    assert len(set(chosen.values())) == len(chosen)
