"""Whether an Accept header asks for CSV rather than JSON."""

import re

_QUALITY = re.compile(r"[qQ]=([01](?:\.[0-9]{0,3})?)")
_RANGES = {
    "text/csv": ("text/csv", "text/*", "*/*"),
    "application/json": ("application/json", "application/*", "*/*"),
}
_NO_MATCH = (0.0, 0, 0)


def prefers_csv(accept: str) -> bool:
    """Whether text/csv is the best match of the header: by quality, then the more specific, then the earlier.

    A range that names both, such as */*, prefers neither. Parts that make no sense count as absent.
    """
    csv, json = (_match(accept, kind) for kind in ("text/csv", "application/json"))
    return csv[0] > 0 and csv > json


def _match(accept: str, kind: str) -> tuple[float, int, int]:
    """(quality, specificity, minus the place) of the most specific range that the kind is in."""
    found = []
    for place, part in enumerate(accept.split(",")):
        name, *parameters = (each.strip() for each in part.split(";"))
        if name.lower() not in _RANGES[kind]:
            continue
        quality = next((each for each in parameters if each[:2].lower() == "q="), "q=1")
        if (number := _QUALITY.fullmatch(quality)) is not None:
            found.append((-_RANGES[kind].index(name.lower()), -place, float(number[1])))
    if not found:
        return _NO_MATCH
    specificity, place, quality_ = max(found)
    return quality_, specificity, 0 if specificity == -2 else place
