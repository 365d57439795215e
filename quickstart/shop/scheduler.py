"""The shop's scheduler: jobs that call the other services again and again, and so make all of its traffic."""

import argparse
import logging
import random
import signal
import threading
from collections.abc import Callable
from typing import Final

import requests

import tracewatch

SYMBOLS: Final = ("AAPL", "MSFT", "NVDA", "IBM", "ORCL", "TSM", "ASML", "SAP", "INTC", "AMD")
OWNERS: Final = ("ada", "grace", "edsger")
TIMEOUT_S: Final = 10

logger = logging.getLogger(__name__)


class Jobs:
    """What the scheduler does; each call is a trace of its own."""

    def __init__(self, api_url: str, proxy_url: str) -> None:
        self._api_url = api_url
        self._proxy_url = proxy_url

    @tracewatch.trace_function(name="refresh_quote")
    def refresh_quote(self) -> None:
        symbol = random.choice(SYMBOLS)
        tracewatch.add_metadata(symbol=symbol)
        requests.get(f"{self._api_url}/api/quotes/{symbol}", timeout=TIMEOUT_S).raise_for_status()

    @tracewatch.trace_function(name="value_portfolio")
    def value_portfolio(self) -> None:
        requests.get(f"{self._api_url}/api/portfolios/{random.choice(OWNERS)}", timeout=TIMEOUT_S).raise_for_status()

    @tracewatch.trace_function(name="check_market")
    def check_market(self) -> None:
        requests.get(f"{self._proxy_url}/market", timeout=TIMEOUT_S).raise_for_status()


def run_regularly(job: Callable[[], None], rate: float, stopping: threading.Event) -> None:
    """Call ``job`` about ``rate`` times a second, in an irregular rhythm, until ``stopping``."""
    while not stopping.wait(random.expovariate(rate)):
        try:
            job()
        except requests.RequestException as error:
            logger.warning("job failed: %s", type(error).__name__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--api-url", required=True)
    parser.add_argument("--proxy-url", required=True)
    parser.add_argument("--rate", type=float, default=8.0, help="traces a second")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)

    tracewatch.configure(service_name="scheduler")
    tracewatch.instrument_requests()
    jobs = Jobs(arguments.api_url, arguments.proxy_url)
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())  # the spans are flushed at exit
    shares = ((jobs.refresh_quote, 0.5), (jobs.value_portfolio, 0.2), (jobs.check_market, 0.3))
    threads = [
        threading.Thread(target=run_regularly, args=(job, arguments.rate * share, stopping)) for job, share in shares
    ]
    for thread in threads:
        thread.start()
    logger.info("scheduler is running")
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
