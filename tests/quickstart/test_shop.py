"""The demo shop is really instrumented, and really fails, over HTTP."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from quickstart import faults
from quickstart.errors import QuickstartError
from quickstart.faults import Fault
from quickstart.process import free_port, is_port_free
from quickstart.program import PythonModule, http_answers
from quickstart.shop.faults import ERRORS, SLOW, Faults
from tests.services import KafkaServer

PROXY = Fault("errors", "yahoo_finance_proxy")


@pytest.fixture(scope="module")
def shop_urls(embedded_kafka: KafkaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The proxy and the network before it."""
    run_dir = tmp_path_factory.mktemp("shop")
    urls = {name: f"http://127.0.0.1:{free_port()}" for name in ("yahoo_finance_proxy", "network")}
    port = {name: url.rpartition(":")[2] for name, url in urls.items()}
    kafka = {"TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": embedded_kafka.bootstrap_servers}
    with (
        PythonModule(
            "quickstart.shop.yahoo_finance_proxy",
            *("--port", port["yahoo_finance_proxy"]),
            environment=kafka,
            is_ready=http_answers(f"{urls['yahoo_finance_proxy']}/market"),
            run_dir=run_dir,
        ),
        PythonModule(
            "quickstart.shop.network",
            *("--port", port["network"], "--target", urls["yahoo_finance_proxy"]),
            environment={},
            is_ready=http_answers(f"{urls['network']}/market"),
            run_dir=run_dir,
        ),
    ):
        yield urls


def test_the_network_passes_requests_and_trace_headers_on(shop_urls: dict[str, str]) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = httpx.get(f"{shop_urls['network']}/quote/IBM", headers={"traceparent": traceparent})
    assert answer.status_code == 200
    assert answer.json()["symbol"] == "IBM"
    direct = httpx.get(f"{shop_urls['yahoo_finance_proxy']}/quote/IBM", headers={"traceparent": traceparent})
    assert direct.headers["X-Trace-ID"] == "0af7651916cd43dd8448eb211c80319c"


def test_a_service_told_to_fail_fails_half_of_its_requests_and_then_no_more(shop_urls: dict[str, str]) -> None:
    faults.inject(PROXY, 1.0, shop_urls)
    until_s = time.monotonic() + 1.0
    statuses = set()
    while time.monotonic() < until_s:
        statuses.add(httpx.get(f"{shop_urls['yahoo_finance_proxy']}/quote/IBM").status_code)
    assert statuses == {200, 502}
    time.sleep(0.1)
    assert {httpx.get(f"{shop_urls['yahoo_finance_proxy']}/quote/IBM").status_code for _ in range(10)} == {200}


def test_a_delayed_network_is_slow_and_the_service_behind_it_is_not(shop_urls: dict[str, str]) -> None:
    faults.inject(Fault("network-delay", "yahoo_finance_proxy"), 2.0, shop_urls)
    assert httpx.get(f"{shop_urls['network']}/market").elapsed.total_seconds() > 0.4
    assert httpx.get(f"{shop_urls['yahoo_finance_proxy']}/market").elapsed.total_seconds() < 0.4


@pytest.mark.parametrize(("service", "kind"), [("yahoo_finance_proxy", "burning"), ("network", "errors")])
def test_a_fault_that_a_service_cannot_have_is_refused(shop_urls: dict[str, str], service: str, kind: str) -> None:
    answer = httpx.post(f"{shop_urls[service]}/faults/{kind}")
    assert answer.status_code == 400
    assert "no fault of this service" in answer.json()["error"]


def test_the_network_before_a_service_that_is_away_hangs_up(tmp_path: Path) -> None:
    port, nobody = free_port(), free_port()
    network = PythonModule(
        "quickstart.shop.network",
        *("--port", str(port), "--target", f"http://127.0.0.1:{nobody}"),
        environment={},
        is_ready=lambda: not is_port_free(port),
        run_dir=tmp_path,
    )
    with network, pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{port}/market")
    assert "Traceback" not in network.process.log_tail()


def test_a_fault_without_a_shop_says_where_it_was_looked_for() -> None:
    with pytest.raises(QuickstartError, match="the demo shop does not answer"):
        faults.inject(PROXY, 1.0, {"yahoo_finance_proxy": f"http://127.0.0.1:{free_port()}"})


def test_a_fault_of_a_service_that_has_no_such_hop_is_refused() -> None:
    with pytest.raises(QuickstartError, match="cannot have network-delay"):
        faults.inject(Fault("network-delay", "api-service"), 1.0, {})


@pytest.mark.parametrize("for_s", [0, -1, 3601, float("nan")])
def test_a_fault_lasts_for_some_time_but_not_for_ever(for_s: float) -> None:
    with pytest.raises(ValueError, match="for_s"):
        Faults(ERRORS).inject(ERRORS, for_s)


def test_faults_are_told_apart() -> None:
    some = Faults(ERRORS, SLOW)
    some.inject(SLOW, 60)
    assert some.is_on(SLOW)
    assert not some.is_on(ERRORS)
