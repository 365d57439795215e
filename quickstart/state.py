"""What a running demo leaves for other commands to find: ``run/demo.json``."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Self

from quickstart.errors import QuickstartError

FILE: Final = "demo.json"


@dataclass(frozen=True, slots=True)
class DemoState:
    """``urls`` of what serves people, ``shop_urls`` of the shop's services, ``environment`` to reach its servers."""

    pid: int
    urls: dict[str, str]
    shop_urls: dict[str, str]
    environment: dict[str, str]

    def write(self, run_dir: Path) -> None:
        """Leave it for other commands; readable only by us, since it holds passwords."""
        path = run_dir / FILE
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(self), file, indent=2)

    @classmethod
    def read(cls, run_dir: Path) -> Self:
        """The demo that runs. Raises QuickstartError when none does."""
        state = cls._last(run_dir)
        if state is None or not _runs(state.pid):
            raise QuickstartError(f"no demo is running (nothing in {run_dir}); start one with: make demo")
        return state

    @classmethod
    def refuse_second(cls, run_dir: Path) -> None:
        """Raises QuickstartError when a demo uses ``run_dir`` already."""
        state = cls._last(run_dir)
        if state is not None and state.pid != os.getpid() and _runs(state.pid):
            raise QuickstartError(
                f"a demo is running already (process {state.pid}): end it with Ctrl-C there,"
                " or give this one a directory of its own with --run-dir"
            )

    @staticmethod
    def remove(run_dir: Path) -> None:
        (run_dir / FILE).unlink(missing_ok=True)

    @classmethod
    def _last(cls, run_dir: Path) -> Self | None:
        try:
            return cls(**json.loads((run_dir / FILE).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
