"""Cursors of pages: opaque to clients, so that what they hold may change."""

import base64
import binascii

from eventferry.api.problems import invalid


def make_cursor(seq: int | None) -> str | None:
    """Where the next page begins; None where there is none."""
    return None if seq is None else base64.urlsafe_b64encode(f"before:{seq}".encode()).decode().rstrip("=")


def read_cursor(text: str | None) -> int | None:
    """The inverse of make_cursor. Raises Problem."""
    if text is None:
        return None
    try:
        word, _, number = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode().partition(":")
        if word == "before" and number.isascii() and number.isdecimal() and len(number) < 19:
            return int(number)
    except (binascii.Error, UnicodeError, ValueError):
        pass
    raise invalid("query.cursor", f"{text[:60]!r} is not a cursor; use the `next` of the page before, as it is")
