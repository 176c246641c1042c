"""Makes texts and URLs fit for messages: one line, bounded, without control characters or secrets."""

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]+")


def safe_text(text: str | bytes, limit: int = 200, secrets: Iterable[str] = ()) -> str:
    """The first `limit` characters of `text` on one line, with `***` where a secret stood."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    flat = " ".join(_UNSAFE.sub(" ", text[: 4 * limit]).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def named(thing: str, reason: str) -> str:
    """`thing: reason`; the reason alone where it names the thing itself."""
    return reason if f"{thing}:" in reason else f"{thing}: {reason}"


def safe_url(url: str) -> str:
    """`url` without user name, password, query and fragment; long path segments, which are often tokens, are cut."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "a URL that cannot be read"
    host = f"[{host}]" if ":" in host else host
    path = "/".join(one if len(one) < 20 else one[:4] + "…" for one in parts.path.split("/"))
    scheme = f"{parts.scheme}://" if host else ""
    return safe_text(f"{scheme}{host}{port}{path}")
