"""Names of findings: the same input, read again, gives the same name."""

import hashlib


def finding_id(*parts: str | bytes | int) -> str:
    """32 hex digits that depend on ``parts`` and their order alone."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        encoded = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(4, "big"))
        digest.update(encoded)
    return digest.hexdigest()
