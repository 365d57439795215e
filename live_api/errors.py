"""What a caller can do wrong, and what may be missing behind us.

TracewatchError
├── InvalidParameter     a request names something that cannot be used: 400, and which parameter it was
├── NotFound             what a request asks for is not there: 404
├── TooExpensive         a query takes longer than one may: 503, ask for less
└── Unavailable          Kafka or PostgreSQL does not answer now: 503, try again
"""

from tracecore.errors import TracewatchError


class InvalidParameter(TracewatchError):
    """A parameter of a request cannot be used."""

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(f"{parameter}: {reason}")
        self.parameter = parameter
        self.reason = reason


class NotFound(TracewatchError):
    """What a request asks for is not there."""


class TooExpensive(TracewatchError):
    """A query takes longer than one may."""


class Unavailable(TracewatchError):
    """Something behind us does not answer now."""
