"""Signs requests as Standard Webhooks 1.0.0 says, so that a receiver can tell who sent them, and when."""

import base64
import binascii
import hmac
from collections.abc import Iterable

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


def sign(secrets: Iterable[str], identity: str, seconds: int, body: bytes) -> str:
    """The value of the signature's header: one signature for each secret, so that a secret can be exchanged."""
    signed = f"{identity}.{seconds}.".encode() + body
    digests = (hmac.digest(_key(secret), signed, "sha256") for secret in secrets)
    return " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
