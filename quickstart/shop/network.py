"""The network between two services of the shop: it forwards requests, sees no spans, and can be slow."""

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from quickstart.shop.faults import NETWORK_DELAY, NETWORK_DELAY_S, Faults

# What belongs to one connection is not passed on to the next. Source: RFC 9110, section 7.6.1.
CONNECTION_HEADERS: Final = frozenset((b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"host"))

faults = Faults(NETWORK_DELAY)


def network(target: str) -> Starlette:
    """An application that passes every request on to ``target``, and its answer back."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(base_url=target, timeout=30) as app.state.client:
            yield

    async def forward(request: Request) -> Response:
        if faults.is_on(NETWORK_DELAY):
            await asyncio.sleep(NETWORK_DELAY_S)
        url = httpx.URL(path=request.url.path, query=request.url.query.encode())
        headers = [header for header in request.headers.raw if header[0].lower() not in CONNECTION_HEADERS]
        answer = await request.app.state.client.request(
            request.method, url, headers=headers, content=await request.body()
        )
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))

    return Starlette(
        routes=[
            Route("/faults/{kind}", inject, methods=["POST"]),
            Route("/{path:path}", forward, methods=["GET", "POST", "PUT", "DELETE"]),
        ],
        lifespan=lifespan,
    )


async def inject(request: Request) -> JSONResponse:
    try:
        faults.inject(request.path_params["kind"], float(request.query_params.get("for_s", "20")))
    except ValueError as error:
        return JSONResponse({"error": str(error)}, status_code=400)
    return JSONResponse({"fault": request.path_params["kind"]}, status_code=202)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--target", required=True, help="URL of the service behind")
    arguments = parser.parse_args()
    uvicorn.run(
        network(arguments.target),
        host="127.0.0.1",
        port=arguments.port,
        access_log=False,
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    main()
