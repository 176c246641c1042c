"""To whom letters about exports may go: the same rule for a schedule of config.toml and for whoever asks over HTTP."""

import re

MOST_LETTERS = 10

_LONGEST_ADDRESS = 254
_ATOM, _LABEL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+", r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")


def fault_of_address(address: str) -> str | None:
    """Why this is not one address with a host, if so: a mail server would take a list for as many letters."""
    if len(address) <= _LONGEST_ADDRESS and _ADDRESS.fullmatch(address):
        return None
    return f"{address[:80]!r} is not an e-mail address; expected name@example.org"
