"""docker-compose.yml is valid, names no setting that the code does not know, and holds no secret."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyOptions
from pydantic_settings import BaseSettings

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
ROOMS = ("migrations", "stream", "sink", "live_api", "dashboard", "gateway")


def known_variables() -> set[str]:
    """Every TRACEWATCH_* variable that some room reads."""
    known = set()
    for path in (ROOT / "producer" / "python").rglob("*.py"):
        known |= set(re.findall(r"\bTRACEWATCH_[A-Z_]+\b", path.read_text()))
    for room in ("tracecore", "stream", "sink", "live_api", "dashboard"):
        for value in vars(importlib.import_module(f"{room}.settings")).values():
            if isinstance(value, type) and issubclass(value, BaseSettings):
                prefix = value.model_config.get("env_prefix", "")
                known |= {f"{prefix}{field}".upper() for field in value.model_fields}
    return known


def parsed(text: str) -> None:
    options = PyOptions()
    options.apply_merge = True
    options.from_yaml(text).validate()


def test_it_is_a_valid_compose_file() -> None:
    parsed(COMPOSE)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("read_only:", "readonly:"), ("service_healthy", "healthy"), ("interval: 10s", "interval: soon")],
)
def test_the_check_of_validity_bites(right: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong.split()[-1].rstrip(":")):
        parsed(COMPOSE.replace(right, wrong))


@pytest.mark.parametrize("room", ROOMS)
def test_every_setting_of_a_room_is_known_to_the_code(room: str) -> None:
    ours = {name for name in SERVICES[room]["environment"] if name.startswith("TRACEWATCH_")}
    assert ours <= known_variables()


def test_every_password_comes_from_outside_and_is_required() -> None:
    passwords = re.findall(r"PASSWORD: (.*)", COMPOSE)
    assert len(passwords) >= 3
    assert all(re.fullmatch(r"\$\{[A-Z_]+:\?.+\}", password) for password in passwords)
    example = dict(line.split("=") for line in (ROOT / ".env.example").read_text().splitlines() if "=" in line)
    assert {password[2:].partition(":")[0] for password in passwords} == set(example)
    assert not any(example.values())


def test_images_are_pinned_to_a_version() -> None:
    tags = [service["image"].partition(":")[2] for service in SERVICES.values()]
    tags += re.findall(r"^FROM [^:\s]+:(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert all(re.match(r"\d+\.\d+", tag) for tag in tags), tags


def test_nothing_is_published_beyond_this_machine() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_health_check_and_limits_and_gains_no_rights(name: str) -> None:
    service = SERVICES[name]
    assert name == "migrations" or service["healthcheck"]["test"]
    assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_image_runs_without_root_and_holds_every_room_that_is_run() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^USER [1-9]\d+$", dockerfile, re.MULTILINE)
    copied = set(re.findall(r"^COPY (\w+) \1$", dockerfile, re.MULTILINE))
    run = {SERVICES[room]["command"][2].partition(".")[0] for room in ROOMS}
    assert run - {"tracewatch"} <= copied


def test_no_container_runs_as_root() -> None:
    # Ours by the Dockerfile's USER; others by the name that their image has for it.
    others = [name for name in SERVICES if name not in ROOMS]
    assert all(SERVICES[name]["user"] not in ("root", "0") for name in others)
    assert all("user" not in SERVICES[room] for room in ROOMS)


def test_a_room_starts_when_what_it_needs_is_well() -> None:
    for room in ROOMS:
        for needed, condition in SERVICES[room]["depends_on"].items():
            ends = needed == "migrations"
            assert condition == {"condition": "service_completed_successfully" if ends else "service_healthy"}
            assert ends or SERVICES[needed]["healthcheck"]
