"""``python -m bench NAME [OPTION ...]``: run a bench; without a name, say which there are.

A bench is a module here with a ``main()`` that prints its figures, each beside the bound it is to keep.
"""

import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Run the bench named first; the rest are its own options. Returns the exit code: 2 for a name there is not."""
    known = benches()
    if not arguments:
        print("python -m bench NAME, or make bench ARGS=NAME, where NAME is")
        for name, summary in known.items():
            print(f"  {name:<16} {summary}")
        return 0
    name, *options = arguments
    if name not in known:
        print(f"bench: there is no {name}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    sys.argv = [f"python -m bench {name}", *options]
    importlib.import_module(f"bench.{name}").main()
    return 0


def benches() -> dict[str, str]:
    """The first line of each bench's docstring, by name; read without importing it."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        module = ast.parse(path.read_text())
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in module.body):
            found[path.stem] = (ast.get_docstring(module) or "").partition("\n")[0]
    found.pop("__main__", None)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
