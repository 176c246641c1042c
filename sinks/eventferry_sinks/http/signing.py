"""Signs requests as Standard Webhooks 1.0.0 says, so that a receiver can tell who sent them, and when."""

import base64
import binascii
import hmac
from collections.abc import Iterable

from eventferry.sink.http import Piece

PREFIX = "whsec_"
_LEAST, _MOST = 24, 64  # bytes of a secret


def check_secret(secret: str) -> str:
    """`secret`, if it can sign: `whsec_` and 24 to 64 bytes in base64. Raises ValueError without it."""
    try:
        size = len(_key(secret)) if secret.startswith(PREFIX) else 0
    except binascii.Error:
        size = 0
    if not _LEAST <= size <= _MOST:
        raise ValueError(
            f"is not a signing secret; expected {PREFIX} followed by {_LEAST} to {_MOST} random bytes in base64, as"
            f" `echo {PREFIX}$(openssl rand -base64 32)` makes them"
        )
    return secret


def sign(secrets: Iterable[str], identity: str, seconds: int, body: Iterable[Piece]) -> str:
    """The value of the signature's header: one signature for each secret, so that a secret can be exchanged."""
    return " ".join("v1," + _signature(_key(secret), f"{identity}.{seconds}.".encode(), body) for secret in secrets)


def _signature(key: bytes, head: bytes, body: Iterable[Piece]) -> str:
    digest = hmac.new(key, head, "sha256")
    for piece in body:
        digest.update(piece)
    return base64.b64encode(digest.digest()).decode()


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
