"""What the demo runs, each with its settings and with how one sees that it serves."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from quickstart.databases import Databases
from quickstart.python_module import PythonModule, http_answers


def rooms(
    environment: Mapping[str, str], databases: Databases, ports: Mapping[str, int], run_dir: Path
) -> list[PythonModule]:
    live_api = f"http://127.0.0.1:{ports['live_api']}"
    dashboard = f"http://127.0.0.1:{ports['dashboard']}"
    return [
        PythonModule("stream", environment={**environment}, is_ready=lambda: True, run_dir=run_dir),
        PythonModule(
            "sink",
            environment={**environment, "TRACEWATCH_DATABASE_URL": databases.writer},
            is_ready=lambda: True,
            run_dir=run_dir,
        ),
        PythonModule(
            "live_api",
            environment={
                **environment,
                "TRACEWATCH_DATABASE_URL": databases.reader,
                "TRACEWATCH_LIVE_API_PORT": str(ports["live_api"]),
            },
            is_ready=http_answers(f"{live_api}/readyz"),
            run_dir=run_dir,
        ),
        PythonModule(
            "dashboard",
            environment={
                "TRACEWATCH_DATABASE_URL": databases.reader,
                "TRACEWATCH_DASHBOARD_PORT": str(ports["dashboard"]),
                "TRACEWATCH_DASHBOARD_LIVE_API_URL": live_api,
            },
            is_ready=http_answers(f"{dashboard}/_stcore/health"),
            run_dir=run_dir,
        ),
    ]


def shop(
    environment: Mapping[str, str], urls: Mapping[str, str], database_url: str, run_dir: Path, traces_per_s: float
) -> list[PythonModule]:
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
        PythonModule(
            f"{shop}api_service",
            *("--port", port["api-service"]),
            title="api-service",
            environment={**environment, "SHOP_DATABASE_URL": database_url, "SHOP_PROXY_URL": urls["network"]},
            is_ready=http_answers(f"{urls['api-service']}/openapi.json"),
            run_dir=run_dir,
        ),
        PythonModule(
            f"{shop}scheduler",
            *("--api-url", urls["api-service"], "--proxy-url", urls["yahoo_finance_proxy"]),
            *("--rate", str(traces_per_s)),
            title="scheduler",
            environment=environment,
            is_ready=lambda: True,
            run_dir=run_dir,
        ),
    ]
