"""Programs as services: the rooms (``python -m ROOM``) and the services of the demo shop, in Python or Go."""

import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from quickstart.process import ManagedProcess
from quickstart.service import Service

ROOT: Final = Path(__file__).resolve().parents[1]


class Program(Service):
    """Any program with settings in its environment, started in the repository's root."""

    ready_timeout_s = 60.0

    def __init__(
        self,
        title: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        is_ready: Callable[[], bool],
        run_dir: Path,
    ) -> None:
        """``is_ready`` asks the running process from outside, and blocks for two seconds at most."""
        self.title = title
        self._is_ready = is_ready
        self.process = ManagedProcess(title, argv, log_path=run_dir / f"{title}.log", env=environment, cwd=ROOT)

    def is_ready(self) -> bool:
        return self.process.is_running and self._is_ready()


class PythonModule(Program):
    """``python -m MODULE``."""

    def __init__(
        self,
        module: str,
        *arguments: str,
        title: str | None = None,
        environment: Mapping[str, str],
        is_ready: Callable[[], bool],
        run_dir: Path,
    ) -> None:
        super().__init__(
            title or module,
            [sys.executable, "-m", module, *arguments],
            environment={"PYTHONUNBUFFERED": "1", **environment},
            is_ready=is_ready,
            run_dir=run_dir,
        )


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
