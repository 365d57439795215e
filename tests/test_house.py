"""The house's two laws hold, and the guard that holds them bites."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("tracecore", "stream", "sink", "replay", "live_api", "dashboard", "migrations", "quickstart")


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(root), str(root / "producer" / "python")))
    return subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--config", root / "pyproject.toml", "--no-cache"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy_of_the_house(tmp_path: Path) -> Path:
    for package in (*PACKAGES, "producer/python/tracewatch"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_laws_hold() -> None:
    outcome = lint_imports(ROOT)
    assert outcome.returncode == 0, outcome.stdout


@pytest.mark.parametrize(
    ("module", "planted", "law"),
    [
        ("sink/__init__.py", "import stream", "Rooms know the core and no other room BROKEN"),
        ("tracecore/span.py", "import sink", "The core knows no room BROKEN"),
        ("tracecore/span.py", "import aiokafka", "Thinking modules have no client library and no clock BROKEN"),
        ("tracecore/span.py", "import time", "Thinking modules have no client library and no clock BROKEN"),
        (
            "producer/python/tracewatch/__init__.py",
            "import tracecore",
            "Instrumentation knows nothing of the pipeline BROKEN",
        ),
    ],
)
def test_a_planted_import_breaks_the_law(copy_of_the_house: Path, module: str, planted: str, law: str) -> None:
    planted_in = copy_of_the_house / module
    planted_in.write_text(f"{planted_in.read_text()}\n{planted}\n")
    outcome = lint_imports(copy_of_the_house)
    assert outcome.returncode == 1
    assert law in outcome.stdout
