"""Who may call: bearer tokens, and which web pages may open a WebSocket.

Without tokens everyone who reaches the port may call; it listens on the loopback interface unless told otherwise.
"""

import hmac
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

#: A token as a WebSocket subprotocol, for browsers, which cannot set headers: "bearer.TOKEN" beside "tracewatch.v1".
TOKEN_SUBPROTOCOL = "bearer."


class Access:
    """Decides; keeps the tokens."""

    def __init__(self, tokens: Iterable[str] = (), allowed_origins: Iterable[str] = ()) -> None:
        self._tokens = tuple(token.encode() for token in tokens)
        self._origins = frozenset(origin.rstrip("/").lower() for origin in allowed_origins)

    @property
    def needs_token(self) -> bool:
        """True if there are tokens."""
        return bool(self._tokens)

    def allows(self, token: str) -> bool:
        """True if the token is one of ours, or none is needed. In a time that tells nothing of the tokens."""
        if not self._tokens:
            return True
        given = token.encode("utf-8", "surrogatepass")
        # All are compared, whichever matches.
        return sum(hmac.compare_digest(given, known) for known in self._tokens) > 0

    def allows_origin(self, origin: str, host: str) -> bool:
        """True if a page of this origin may open a WebSocket to ``host`` (the Host header).

        Browsers send WebSockets across origins without asking. Allowed are programs (no origin), named origins, and
        our own, if its host is an address or localhost: another name could have been rebound to us in DNS.
        """
        if not origin or origin.rstrip("/").lower() in self._origins:
            return True
        try:
            parts = urlsplit(origin)
            name = parts.hostname or ""
        except ValueError:
            return False
        return bool(name) and parts.netloc.lower() == host.lower() and (name == "localhost" or _is_address(name))


def bearer_token(authorization: str) -> str:
    """The token of an Authorization header; empty if it has none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def subprotocol_token(offered: Iterable[str]) -> str:
    """The token that a WebSocket client offers as a subprotocol; empty if it does not."""
    return next((each.removeprefix(TOKEN_SUBPROTOCOL) for each in offered if each.startswith(TOKEN_SUBPROTOCOL)), "")


def tokens_of(listed: str, file_text: str) -> list[str]:
    """Tokens from a comma-separated list and from a file with one a line, where # begins a comment."""
    lines = (line.partition("#")[0].strip() for line in file_text.splitlines())
    return [token for token in (*(each.strip() for each in listed.split(",")), *lines) if token]


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
