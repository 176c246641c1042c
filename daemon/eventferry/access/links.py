"""Signed download links: whoever holds one has the file, until it expires or its export is deleted."""

import re
from urllib.parse import quote

from eventferry import clock
from eventferry.access.keyring import Keyring
from eventferry.errors import EventferryError

PURPOSE = "link"

# In this one spelling: a parameter doubled, added, moved or encoded otherwise is refused.
_QUERY = re.compile(r"expires=([1-9][0-9]{0,11})&key=([0-9a-f]{8})&signature=([0-9A-Za-z_-]{43})", re.ASCII)


class LinkRefused(EventferryError):
    """The link opens nothing. `expired`: it was genuine once."""

    def __init__(self, *, expired: bool = False) -> None:
        self.expired = expired
        super().__init__("the link has expired" if expired else "the link is not valid")


def file_path(export_id: str, name: str) -> str:
    """Where the server has the file, below its base URL."""
    return f"/v1/exports/{quote(export_id, safe='')}/files/{quote(name, safe='')}"


def make_link(keyring: Keyring, export_id: str, name: str, expires_ms: int) -> str:
    """Path and query of a link to a file of an export that is valid until `expires_ms`, to the second below."""
    expires = expires_ms // 1000
    key, _, signature = keyring.sign(PURPOSE, _payload(export_id, name, expires)).partition(".")
    return f"{file_path(export_id, name)}?expires={expires}&key={key}&signature={signature}"


def check_link(keyring: Keyring, export_id: str, name: str, query: str | bytes) -> None:
    """Return where the link is genuine and has not expired. Raises LinkRefused.

    `export_id` and `name` as they were asked for, decoded; `query` as it was sent, all of it, without the `?`.
    """
    text = query.decode("latin-1") if isinstance(query, bytes) else query
    found = _QUERY.fullmatch(text) if len(text) < 200 else None
    if found is None:
        raise LinkRefused()
    expires = int(found[1])
    if not keyring.verify(PURPOSE, f"{found[2]}.{found[3]}", _payload(export_id, name, expires)):
        raise LinkRefused()
    if expires * 1000 <= clock.now_ms():
        raise LinkRefused(expired=True)


def _payload(export_id: str, name: str, expires: int) -> bytes:
    # The quoted path holds no line end: no two links have the same payload. The key's id is signed by the keyring.
    return f"GET\n{file_path(export_id, name)}\n{expires}".encode()
