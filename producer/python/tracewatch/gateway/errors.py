"""Why a request is not taken, as the sender is told.

RefusedRequest              carries the HTTP status and a sentence for the sender
├── UnreadableBody          400: not what its content type says
├── MissingToken            401: no bearer token, or another
├── BodyTooLarge            413: before or after decompression
├── UnknownMediaType        415: a content type or encoding that is not read
├── TooManyWaiting          429: what waits for Kafka has reached its bound; try again
└── KafkaUnavailable        503: Kafka did not acknowledge in time; try again
"""

from tracewatch.errors import TracewatchError


class RefusedRequest(TracewatchError):
    """A request that is answered by an error."""

    status = 400
    grpc_code = 3  # INVALID_ARGUMENT
    retry_after_s: int | None = None


class UnreadableBody(RefusedRequest):
    """The body cannot be decoded."""


class MissingToken(RefusedRequest):
    """The request is not authorized."""

    status = 401
    grpc_code = 16  # UNAUTHENTICATED

    def __init__(self) -> None:
        super().__init__("send the header 'Authorization: Bearer <token>' with the gateway's token")


class BodyTooLarge(RefusedRequest):
    """The body exceeds the limit."""

    status = 413
    grpc_code = 8  # RESOURCE_EXHAUSTED

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the body exceeds {max_bytes} bytes after decompression: send smaller batches")


class UnknownMediaType(RefusedRequest):
    """The content type or encoding is none that is read."""

    status = 415


class TooManyWaiting(RefusedRequest):
    """Kafka is slower than the senders."""

    status = 429
    grpc_code = 14  # UNAVAILABLE
    retry_after_s = 1

    def __init__(self) -> None:
        super().__init__("the gateway holds as many spans as it may: try again")


class KafkaUnavailable(RefusedRequest):
    """The spans are not known to be in Kafka."""

    status = 503
    grpc_code = 14  # UNAVAILABLE
    retry_after_s = 2

    def __init__(self, reason: str) -> None:
        super().__init__(f"Kafka did not take the spans ({reason}): try again")
