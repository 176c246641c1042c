"""The installation's own secrets, in the state directory: they sign links and encrypt what is only lent."""

import base64
import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from eventferry import clock
from eventferry.access.ring_file import KeyringError, RingKey, add_key, file_mark, read_or_make
from eventferry.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["Keyring", "KeyringError"]

_PURPOSE = re.compile(r"[a-z][a-z0-9-]{0,39}")
_SIGNATURE = re.compile(r"([0-9a-f]{8})\.[0-9A-Za-z_-]{43}", re.ASCII)
_FORM = b"\x01"  # of what is encrypted: form, key id, nonce, cipher text with its tag
_ID, _NONCE = 8, 12


class Keyring:
    """Signs and encrypts with the newest secret of `keyring.json`, and knows those of the older ones.

    The file is made at the first use; daemon and server share it and see at once what a rotation changes. Each purpose
    has a secret of its own, derived from the ring's: what was signed for one means nothing for another. Thread-safe.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "keyring.json"
        self._known: tuple[object, tuple[RingKey, ...]] = (None, ())

    def sign(self, purpose: str, payload: bytes) -> str:
        """A signature that URLs can hold: `<key id>.<HMAC-SHA256, base64url>`. Raises KeyringError."""
        return _signature(self._keys()[0], purpose, payload)

    def verify(self, purpose: str, text: str, payload: bytes) -> bool:
        """Whether `text` is a signature of the payload for this purpose; False for whatever else it is."""
        found = _SIGNATURE.fullmatch(text) if isinstance(text, str) and len(text) < 100 else None
        key = self._key(found[1]) if found else None
        if key is None:
            return False
        # The texts are compared, not what they decode to: base64 has several spellings of the same bytes.
        return hmac.compare_digest(text.encode(), _signature(key, purpose, payload).encode())

    def encrypt(self, purpose: str, context: bytes, data: bytes) -> bytes:
        """`data` encrypted and bound to `context` (whose it is): in another context it cannot be decrypted.

        Raises KeyringError; ConfigError where the package cryptography is missing.
        """
        key, nonce = self._keys()[0], os.urandom(_NONCE)
        head = _FORM + key.id.encode()
        return head + nonce + _cipher(key, purpose).encrypt(nonce, data, head + context)

    def decrypt(self, purpose: str, context: bytes, data: bytes) -> bytes:
        """The inverse of encrypt. Raises KeyringError where it was altered, or its secret is in the ring no longer."""
        from_nonce = len(_FORM) + _ID
        head, nonce, rest = data[:from_nonce], data[from_nonce : from_nonce + _NONCE], data[from_nonce + _NONCE :]
        key = self._key(head[1:].decode("ascii", "replace")) if head[:1] == _FORM else None
        if key is None:
            raise KeyringError(f"what was encrypted cannot be read: its secret is not in {self.path}, or no longer")
        cipher = _cipher(key, purpose)
        from cryptography.exceptions import InvalidTag

        try:
            return cipher.decrypt(nonce, rest, head + context)
        except (InvalidTag, ValueError):  # ValueError: it is too short
            raise KeyringError(
                "what was encrypted cannot be read: it was altered, or belongs to something else"
            ) from None

    def rotate(self, *, forget: bool = False) -> str:
        """Sign with a new secret from now on; the id of its key.

        What the older ones signed stays valid for 30 days; with `forget` it is void at once. Raises KeyringError.
        """
        new = _new_key()
        add_key(self.path, new, forget=forget)
        return new.id

    def _key(self, key_id: str) -> RingKey | None:
        return next((key for key in self._keys() if key.id == key_id), None)

    def _keys(self) -> tuple[RingKey, ...]:
        """Newest first, at least one."""
        mark, keys = self._known
        if mark is None or file_mark(self.path) != mark:
            mark, keys = self._known = read_or_make(self.path, _new_key)
        return keys


def _new_key() -> RingKey:
    return RingKey(secrets.token_hex(_ID // 2), secrets.token_bytes(32), clock.now_ms())


def _subkey(key: RingKey, use: str, purpose: str) -> bytes:
    if not _PURPOSE.fullmatch(purpose):
        raise ValueError(f"{purpose!r} is not a purpose")
    return hmac.digest(key.secret, f"eventferry/{use}/{purpose}".encode(), hashlib.sha256)


def _signature(key: RingKey, purpose: str, payload: bytes) -> str:
    made = hmac.digest(_subkey(key, "sign", purpose), key.id.encode() + b"\0" + payload, hashlib.sha256)
    return f"{key.id}.{base64.urlsafe_b64encode(made).rstrip(b'=').decode()}"


def _cipher(key: RingKey, purpose: str) -> "AESGCM":
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError as error:
        raise ConfigError("exports to a requester's store need cryptography: pip install 'eventferry[api]'") from error
    return AESGCM(_subkey(key, "encrypt", purpose))
