"""The shop's price source: a Flask service that plays an exchange, at random and around a made-up price."""

import argparse
import random
import time
from typing import Any

from flask import Flask, request
from werkzeug.serving import make_server

import tracewatch
from quickstart.shop.faults import ERROR_RATIO, ERRORS, SLOW, SLOW_BY_S, Faults
from tracewatch.flask import TracingMiddleware

faults = Faults(ERRORS, SLOW)
app = Flask(__name__)
tracing = TracingMiddleware(app, service_name="yahoo_finance_proxy", excluded_paths=("/faults/*",))


class ExchangeUnavailable(Exception):
    """The exchange does not answer."""


@app.get("/quote/<symbol>")
def quote(symbol: str) -> dict[str, Any]:
    data = fetch_stock_data(symbol)
    return {"symbol": symbol, "price": parse_price(data)}


@app.get("/market")
def market() -> dict[str, Any]:
    time.sleep(random.uniform(0.001, 0.004))
    return {"open": True}


@app.errorhandler(ExchangeUnavailable)
def exchange_unavailable(error: ExchangeUnavailable) -> tuple[dict[str, str], int]:
    return {"error": str(error)}, 502


@app.post("/faults/<kind>")
def inject(kind: str) -> tuple[dict[str, Any], int]:
    try:
        faults.inject(kind, float(request.args.get("for_s", "20")))
    except ValueError as error:
        return {"error": str(error)}, 400
    return {"fault": kind}, 202


@tracewatch.trace_function(name="fetch_stock_data", service="yahoo_finance_proxy")
def fetch_stock_data(symbol: str) -> bytes:
    tracewatch.add_metadata(symbol=symbol)
    time.sleep(random.lognormvariate(-4.6, 0.25))  # about 10 ms
    if faults.is_on(SLOW):
        time.sleep(SLOW_BY_S)
    if faults.is_on(ERRORS) and random.random() < ERROR_RATIO:
        raise ExchangeUnavailable("the exchange answered 503 Service Unavailable")
    base = 20 + sum(symbol.encode()) % 400
    return f"{symbol},{random.gauss(base, base / 200):.2f}".encode()


@tracewatch.trace_function(name="parse_price", service="yahoo_finance_proxy")
def parse_price(data: bytes) -> float:
    return float(data.partition(b",")[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    make_server("127.0.0.1", parser.parse_args().port, app, threaded=True).serve_forever()


if __name__ == "__main__":
    main()
