"""A service that calls back whom it is told to call: what the W3C trace-context suite tests.

    python -m tests.producer.echo_service flask|fastapi

prints its URL and serves until it is terminated. The body of a request is a
JSON list of ``{"url": ..., "arguments": [...]}``; each is posted to, with its
arguments as the body.
"""

import socket
import sys
from typing import Any

import httpx
import requests
import uvicorn
from fastapi import Body, FastAPI
from flask import Flask, request
from werkzeug.serving import make_server

import tracewatch
from tracewatch import asgi, flask

Calls = list[dict[str, Any]]


def flask_service() -> Flask:
    """Calls by requests."""
    app = Flask(__name__)
    flask.TracingMiddleware(app, service_name="echo-flask")
    tracewatch.instrument_requests()

    @app.post("/test")
    def call() -> str:
        for each in request.get_json():
            requests.post(each["url"], json=each["arguments"], timeout=5)
        return "called"

    return app


def fastapi_service() -> FastAPI:
    """Calls by httpx's asynchronous client."""
    app = FastAPI()
    app.add_middleware(asgi.TracingMiddleware, service_name="echo-fastapi")
    tracewatch.instrument_httpx()

    @app.post("/test")
    async def call(calls: Calls = Body()) -> str:  # noqa: B008
        async with httpx.AsyncClient(timeout=5) as client:
            for each in calls:
                await client.post(each["url"], json=each["arguments"])
        return "called"

    return app


def main(framework: str) -> None:
    if framework == "flask":
        server = make_server("127.0.0.1", 0, flask_service(), threaded=True)
        announce(server.server_port)
        server.serve_forever()
    else:
        listening = socket.create_server(("127.0.0.1", 0))
        announce(listening.getsockname()[1])
        uvicorn.Server(uvicorn.Config(fastapi_service(), log_level="warning")).run([listening])


def announce(port: int) -> None:
    sys.stdout.write(f"http://127.0.0.1:{port}/test\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
