"""The shop's API: a FastAPI service that asks for prices, keeps the last ones in PostgreSQL and values portfolios."""

import argparse
import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from psycopg_pool import AsyncConnectionPool

import tracewatch
from quickstart.shop.faults import ERROR_RATIO, ERRORS, SLOW, SLOW_BY_S, Faults
from tracewatch.asgi import TracingMiddleware

PORTFOLIOS: Final = {
    "ada": ("AAPL", "MSFT", "NVDA"),
    "grace": ("IBM", "ORCL"),
    "edsger": ("TSM", "ASML", "SAP", "INTC"),
}
_UPSERT: Final = (
    "INSERT INTO prices (symbol, price) VALUES (%s, %s) ON CONFLICT (symbol) DO UPDATE SET price = excluded.price"
)
_CREATE: Final = "CREATE TABLE IF NOT EXISTS prices (symbol text PRIMARY KEY, price float8 NOT NULL)"

faults = Faults(ERRORS, SLOW)
tracer = trace.get_tracer(__name__)


class ValuationFailed(Exception):
    """The shop's own mistake, when it is told to make one."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    database_url = os.environ["SHOP_DATABASE_URL"]
    app.state.database = urlsplit(database_url)
    async with (
        httpx.AsyncClient(base_url=os.environ["SHOP_PROXY_URL"], timeout=10) as app.state.proxy,
        AsyncConnectionPool(database_url, min_size=1, max_size=4, open=False) as app.state.prices,
    ):
        async with app.state.prices.connection() as connection:
            await connection.execute(_CREATE)
        yield


tracewatch.configure(service_name="api-service")
tracewatch.instrument_httpx()
# FastAPI itself makes a server span for each request in its later versions; one is enough, and here it is ours.
app = FastAPI(title="api-service", lifespan=lifespan, telemetry={"tracing": False})
app.add_middleware(TracingMiddleware, excluded_paths=("/faults/*",))


@app.get("/api/quotes/{symbol}")
async def quote(symbol: str, request: Request) -> dict[str, Any]:
    await _fail_if_told_to()
    price = await _fetched_price(symbol, request.app)
    await _store(symbol, price, request.app)
    return {"symbol": symbol, "price": price}


@app.get("/api/portfolios/{owner}")
async def portfolio(owner: str, request: Request) -> dict[str, Any]:
    if owner not in PORTFOLIOS:
        raise HTTPException(404, f"no portfolio of {owner!r}")
    await _fail_if_told_to()
    prices = await asyncio.gather(*(_fetched_price(symbol, request.app) for symbol in PORTFOLIOS[owner]))
    return {"owner": owner, "value": await value_portfolio(list(prices))}


@app.post("/faults/{kind}", status_code=202)
async def inject(kind: str, for_s: float = 20.0) -> dict[str, str]:
    try:
        faults.inject(kind, for_s)
    except ValueError as error:
        raise HTTPException(400, str(error)) from None
    return {"fault": kind}


@app.exception_handler(httpx.HTTPError)
async def proxy_failed(_request: Request, error: httpx.HTTPError) -> JSONResponse:
    return JSONResponse({"error": f"no price: {error}"}, status_code=502)


@tracewatch.trace_function(name="value_portfolio")
async def value_portfolio(prices: list[float]) -> float:
    await asyncio.sleep(random.uniform(0.001, 0.003))
    return round(sum(prices), 2)


async def _fetched_price(symbol: str, app: FastAPI) -> float:
    answer = await app.state.proxy.get(f"/quote/{symbol}")
    answer.raise_for_status()
    return float(answer.json()["price"])


async def _store(symbol: str, price: float, app: FastAPI) -> None:
    where = app.state.database
    attributes = {
        "db.system.name": "postgresql",
        "db.namespace": where.path.lstrip("/"),
        "db.operation.name": "INSERT",
        "db.collection.name": "prices",
        "db.query.text": _UPSERT,
        "server.address": where.hostname,
        "server.port": where.port,
    }
    with tracer.start_as_current_span("INSERT prices", kind=SpanKind.CLIENT, attributes=attributes):
        async with app.state.prices.connection() as connection:
            await connection.execute(_UPSERT, (symbol, price))


async def _fail_if_told_to() -> None:
    if faults.is_on(SLOW):
        await asyncio.sleep(SLOW_BY_S)
    if faults.is_on(ERRORS) and random.random() < ERROR_RATIO:
        raise ValuationFailed("a portfolio without owner was found in the ledger")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port, access_log=False, timeout_graceful_shutdown=2)


if __name__ == "__main__":
    main()
