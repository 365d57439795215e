"""Fuzzes every decoder in turn: ``make fuzz ARGS="--minutes 60"``. Exit code 1 if anything was found.

Each law (tests/fuzzing/laws.py) gets an equal share of the time under a coverage-guided fuzzer, in its own process.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from tests.fuzzing.laws import LAWS
from tests.services import ROOT

#: Beyond its time a process is ended: it hangs.
GRACE_S = 60.0


def main() -> int:
    """Print a line a law: executions, what was found and where it lies."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzzing", description=__doc__)
    parser.add_argument("--minutes", type=float, default=8, help="for all laws together (default 8)")
    parser.add_argument("--folder", type=Path, default=ROOT / "run" / "fuzzing", help="corpora and failures")
    parser.add_argument("laws", nargs="*", metavar="LAW", help=f"some of {', '.join(LAWS)}; all if none is named")
    chosen = parser.parse_args()
    names = chosen.laws or list(LAWS)
    if unknown := [name for name in names if name not in LAWS]:
        parser.error(f"there is no law {', '.join(unknown)}")
    seconds = chosen.minutes * 60 / len(names)
    executions, found = 0, 0
    for name in names:
        outcome = fuzz(name, seconds, chosen.folder / name)
        executions += outcome["executions"]
        found += len(outcome["failures"])
        print(f"{name:<14} {outcome['executions']:>12,} executions  {'; '.join(outcome['failures']) or 'nothing'}")
    print(f"{'all':<14} {executions:>12,} executions  {found} failures{f', in {chosen.folder}' if found else ''}")
    return 1 if found else 0


def fuzz(name: str, seconds: float, folder: Path) -> dict[str, object]:
    """Run one law; a process that died, or had to be ended, is a failure by itself."""
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fuzzing.guided", name, str(seconds), str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = process.communicate(timeout=seconds + GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
    (folder / "output.log").write_text(said)
    last = next((line for line in reversed(said.splitlines()) if line.startswith("{")), "")
    if not last:
        return {"executions": 0, "failures": [f"the process ended with {process.returncode}: {folder / 'output.log'}"]}
    return dict(json.loads(last))


if __name__ == "__main__":
    sys.exit(main())
