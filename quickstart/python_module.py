"""Python modules as services: the rooms (``python -m ROOM``) and the services of the demo shop."""

import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from quickstart.process import ManagedProcess
from quickstart.service import Service

ROOT: Final = Path(__file__).resolve().parents[1]


class PythonModule(Service):
    """``python -m MODULE`` with settings in its environment."""

    ready_timeout_s = 60.0

    def __init__(
        self,
        module: str,
        *arguments: str,
        title: str | None = None,
        environment: Mapping[str, str],
        is_ready: Callable[[], bool],
        run_dir: Path,
    ) -> None:
        """``is_ready`` asks the running process from outside, and blocks for two seconds at most."""
        self.title = title or module
        self._is_ready = is_ready
        self.process = ManagedProcess(
            self.title,
            [sys.executable, "-m", module, *arguments],
            log_path=run_dir / f"{self.title}.log",
            env={"PYTHONUNBUFFERED": "1", **environment},
            cwd=ROOT,
        )

    def is_ready(self) -> bool:
        return self.process.is_running and self._is_ready()


def http_answers(url: str, expected: Sequence[int] = (200,)) -> Callable[[], bool]:
    """Whether a GET of ``url`` is answered with an ``expected`` status."""

    def answers() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return answer.status in expected
        except urllib.error.HTTPError as error:
            return error.code in expected
        except OSError:
            return False

    return answers
