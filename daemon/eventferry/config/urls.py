"""Hides what of a URL written in clear is secret: passwords, and what its query says."""

import re
from collections.abc import Iterator
from urllib.parse import unquote, unquote_plus

from eventferry.config.secrets import MASK

_URL_KEY = re.compile(r"(^|_)(urls?|uris?|endpoints?|address|dsn)$")
_PASSWORD = re.compile(r"(?<=://)([^/?#\s:]*):([^/?#\s]*)@")
_TOKEN = re.compile(r"(?<=://)([^/?#\s@:]+)@")  # `https://TOKEN@host`: a user that needs no password is one itself
_QUERY = re.compile(r"(?<=\?)[^#\s]+")
_SECRET_PARAMETER = re.compile(r"key|pass|pw|secret|token|sig|auth|credential|code|session|salt", re.IGNORECASE)


def is_url(key: str, text: str) -> bool:
    """Whether the text of this key holds an address, to which secrets may have been added."""
    return "://" in text or _URL_KEY.search(key.lower().replace("-", "_")) is not None


def mask_url(text: str) -> str:
    """The text with *** for passwords and for the values of query parameters."""
    shown = _PASSWORD.sub(rf"\1:{MASK}@", text)
    if text.startswith(("http://", "https://")):
        shown = _TOKEN.sub(f"{MASK}@", shown)
    return _QUERY.sub(lambda query: re.sub(r"[^&;]+", _mask_parameter, query[0]), shown)


def _mask_parameter(parameter: re.Match[str]) -> str:
    name, equals, _ = parameter[0].partition("=")
    return f"{name}={MASK}" if equals else MASK


def secrets_of_url(text: str) -> Iterator[str]:
    """Its passwords, and the values of parameters whose names say that they are secret; also as a server reads them."""
    for found in _PASSWORD.finditer(text):
        yield from {found[2], unquote(found[2])}
    for query in _QUERY.finditer(text):
        for name, _, value in (each.partition("=") for each in re.split("[&;]", query[0])):
            if value and _SECRET_PARAMETER.search(name):
                yield from {value, unquote_plus(value)}
