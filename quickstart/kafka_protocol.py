"""Just enough of Kafka's protocol to ask a port whether a broker answers there."""

import socket
import struct
from ssl import SSLContext
from typing import Final

API_VERSIONS: Final = 18  # Kafka protocol guide, "Api Keys"
CORRELATION_ID: Final = 1


def broker_answers(
    port: int, *, host: str = "127.0.0.1", timeout_s: float = 1.0, ssl_context: SSLContext | None = None
) -> bool:
    """Whether a broker at host:port answers an ApiVersions request, inside TLS if an ``ssl_context`` is given.

    A broker of Apache Kafka answers only once it has joined its cluster, so a topic can be created right after.

    Source: Kafka protocol guide, ApiVersions v0 under request header v1.
    """
    client_id = b"tracewatch"
    header = struct.pack(">hhih", API_VERSIONS, 0, CORRELATION_ID, len(client_id)) + client_id
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.settimeout(timeout_s)
            with ssl_context.wrap_socket(connection, server_hostname=host) if ssl_context else connection as line:
                line.sendall(struct.pack(">i", len(header)) + header)
                answer = _received(line, 10)
    except OSError:
        return False
    if len(answer) < 10:
        return False
    _size, correlation_id, error_code = struct.unpack(">iih", answer)
    return bool(correlation_id == CORRELATION_ID and error_code == 0)


def _received(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            break
        data += part
    return data
