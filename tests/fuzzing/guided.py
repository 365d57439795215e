"""One law under Atheris, guided by coverage: ``python -m tests.fuzzing.guided LAW SECONDS FOLDER``.

FOLDER keeps the corpus (``corpus/``) and, for each kind of failure, one input and its traceback (``failures/``); it
goes on after a failure, so that one fault does not hide the next. The last line of the output is a JSON object.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tracecore", "tracewatch", "stream", "sink", "json", "yaml"]):
    from tests.fuzzing.laws import LAWS
    from tests.fuzzing.seeds import seeds

#: One execution longer than this is a failure: a decoder must not be made to think for long.
TIMEOUT_S = 10
MAX_INPUT_BYTES = 4096


class Run:
    """Executes a law and keeps account."""

    def __init__(self, name: str, seconds: float, folder: Path) -> None:
        self._law = LAWS[name]
        self._failures = folder / "failures"
        self._failures.mkdir(parents=True, exist_ok=True)
        self._until = time.monotonic() + seconds
        self._seen: set[str] = set()
        self.executions = 0

    def __call__(self, data: bytes) -> None:
        """One execution; ends the process when its time is over."""
        self.executions += 1
        try:
            self._law(data)
        except Exception as error:
            self._keep(error, data)
        if self.executions % 256 == 0 and time.monotonic() > self._until:
            print(json.dumps({"executions": self.executions, "failures": sorted(self._seen)}), flush=True)
            # libFuzzer takes any other end of the process for a failure; nothing is open here.
            os._exit(0)

    def _keep(self, error: Exception, data: bytes) -> None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        signature = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
        if signature in self._seen:
            return
        self._seen.add(signature)
        name = signature.replace(" ", "-").replace(":", "-")
        (self._failures / f"{name}.input").write_bytes(data)
        (self._failures / f"{name}.txt").write_text("".join(traceback.format_exception(error)))


def main() -> None:
    """Fuzz until the time is over."""
    name, seconds, folder = sys.argv[1], float(sys.argv[2]), Path(sys.argv[3])
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-timeout={TIMEOUT_S}", f"-max_len={MAX_INPUT_BYTES}", f"-artifact_prefix={folder}/failures/"]
    atheris.Setup([sys.argv[0], *options, "-verbosity=0", str(corpus)], Run(name, seconds, folder))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
