"""What the demo runs, each with its settings and with how one sees that it serves."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from quickstart.databases import Databases
from quickstart.program import Program, PythonModule, http_answers


def rooms(
    kafka: Mapping[str, str], databases: Databases, ports: Mapping[str, int], run_dir: Path
) -> list[PythonModule]:
    """Every room, the stream first. ``kafka`` is the environment in which it finds the broker."""
    urls = {room: f"http://127.0.0.1:{ports[room]}" for room in ("stream", "sink", "live_api", "dashboard", "gateway")}
    return [
        PythonModule(
            "stream",
            # The embedded broker lets a group wait for half of its session timeout before it begins.
            environment={
                **kafka,
                "TRACEWATCH_STREAM_PORT": str(ports["stream"]),
                "TRACEWATCH_STREAM_SESSION_TIMEOUT_S": "3",
            },
            is_ready=http_answers(f"{urls['stream']}/healthz"),
            run_dir=run_dir,
        ),
        PythonModule(
            "sink",
            environment={
                **kafka,
                "TRACEWATCH_DATABASE_URL": databases.writer,
                "TRACEWATCH_SINK_PORT": str(ports["sink"]),
            },
            is_ready=http_answers(f"{urls['sink']}/healthz"),
            run_dir=run_dir,
        ),
        PythonModule(
            "live_api",
            environment={
                **kafka,
                "TRACEWATCH_DATABASE_URL": databases.reader,
                "TRACEWATCH_LIVE_API_PORT": str(ports["live_api"]),
            },
            is_ready=http_answers(f"{urls['live_api']}/readyz"),
            run_dir=run_dir,
        ),
        PythonModule(
            "dashboard",
            environment={
                "TRACEWATCH_DATABASE_URL": databases.reader,
                "TRACEWATCH_DASHBOARD_PORT": str(ports["dashboard"]),
                "TRACEWATCH_DASHBOARD_LIVE_API_URL": urls["live_api"],
            },
            is_ready=http_answers(f"{urls['dashboard']}/_stcore/health"),
            run_dir=run_dir,
        ),
        PythonModule(
            "tracewatch.gateway",
            title="gateway",
            environment={**kafka, "TRACEWATCH_GATEWAY_PORT": str(ports["gateway"])},
            is_ready=http_answers(f"{urls['gateway']}/healthz"),
            run_dir=run_dir,
        ),
    ]


def shop_urls(ports: Mapping[str, int]) -> dict[str, str]:
    """The base URL of each service of the shop, and of its network."""
    return {
        "api-service": f"http://127.0.0.1:{ports['api_service']}",
        "yahoo_finance_proxy": f"http://127.0.0.1:{ports['yahoo_finance_proxy']}",
        "network": f"http://127.0.0.1:{ports['network']}",
    }


def go_program(service: str) -> Path | None:
    """The shop's service in Go, if ``make`` could build it."""
    program = Path(sys.executable).parent / f"shop-{service}"
    return program if program.exists() else None


def shop_language() -> str:
    """What the shop's api-service and scheduler are written in, for people."""
    if go_program("api-service"):
        return "api-service and scheduler in Go, yahoo_finance_proxy in Flask"
    return "all in Python: the Go services were not built"


def shop(
    environment: Mapping[str, str], urls: Mapping[str, str], database_url: str, run_dir: Path, traces_per_s: float
) -> list[Program]:
    """The demo shop, its scheduler last. ``urls`` are those of `shop_urls`."""
    port = {name: str(urlsplit(url).port) for name, url in urls.items()}
    shop = "quickstart.shop."
    return [
        PythonModule(
            f"{shop}yahoo_finance_proxy",
            *("--port", port["yahoo_finance_proxy"]),
            title="yahoo_finance_proxy",
            environment=environment,
            is_ready=http_answers(f"{urls['yahoo_finance_proxy']}/ready", (404,)),
            run_dir=run_dir,
        ),
        PythonModule(
            f"{shop}network",
            *("--port", port["network"], "--target", urls["yahoo_finance_proxy"]),
            title="network",
            environment={},
            is_ready=http_answers(f"{urls['network']}/faults/", (404,)),
            run_dir=run_dir,
        ),
        _service(
            "api-service",
            *("--port", port["api-service"]),
            environment={**environment, "SHOP_DATABASE_URL": database_url, "SHOP_PROXY_URL": urls["network"]},
            is_ready=http_answers(f"{urls['api-service']}/faults/", (404,)),
            run_dir=run_dir,
        ),
        _service(
            "scheduler",
            *("--api-url", urls["api-service"], "--proxy-url", urls["yahoo_finance_proxy"]),
            *("--rate", str(traces_per_s)),
            environment=environment,
            is_ready=lambda: True,
            run_dir=run_dir,
        ),
    ]


def _service(
    name: str, *arguments: str, environment: Mapping[str, str], is_ready: Callable[[], bool], run_dir: Path
) -> Program:
    """A service that there is in Go and in Python, with the same arguments."""
    program = go_program(name)
    if program is not None:
        return Program(name, [str(program), *arguments], environment=environment, is_ready=is_ready, run_dir=run_dir)
    module = f"quickstart.shop.{name.replace('-', '_')}"
    return PythonModule(module, *arguments, title=name, environment=environment, is_ready=is_ready, run_dir=run_dir)
