"""python -m migrations up | status | down [--steps N]."""

import argparse
import logging
import sys

from migrations.runner import MigrationFailed, migrate_down, migrate_up, migration_status
from tracecore.errors import InvalidSetting
from tracecore.logs import start_logging
from tracecore.settings import DatabaseSettings, LogSettings, read


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 if it was done, 1 if not; ``status`` answers 3 while something waits to be applied."""
    parser = argparse.ArgumentParser(
        prog="python -m migrations",
        description="The schema of the history, in the database that TRACEWATCH_DATABASE_URL names.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="apply what is missing")
    commands.add_parser("status", help="say what is applied; exit code 3 while something is missing")
    down = commands.add_parser("down", help="take migrations back, with all their data")
    down.add_argument("--steps", type=_at_least_one, default=1, help="how many, newest first (default 1)")
    down.add_argument("--all", action="store_true", help="all of them")
    chosen = parser.parse_args(arguments)
    try:
        start_logging(read(LogSettings), "migrations", usual_level=logging.WARNING)
        url = read(DatabaseSettings).url.get_secret_value()
        if chosen.command == "status":
            return _show_status(url)
        if chosen.command == "up":
            done = migrate_up(url)
            print("\n".join(f"applied {name}" for name in done) or "nothing to apply")
        else:
            done = migrate_down(url, None if chosen.all else chosen.steps)
            print("\n".join(f"took back {name}" for name in done) or "nothing to take back")
    except (MigrationFailed, InvalidSetting) as error:
        print(f"migrations: {error}", file=sys.stderr)
        return 1
    return 0


def _show_status(url: str) -> int:
    every = migration_status(url)
    for migration in every:
        print(f"{'applied' if migration.is_applied else 'missing'}  {migration.name}")
    return 0 if all(migration.is_applied for migration in every) else 3


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
