"""Reads what a form of a page sends."""

from dataclasses import dataclass
from urllib.parse import parse_qsl

from fastapi import Request

from eventferry.api.problems import Problem

_MEDIA_TYPE = "application/x-www-form-urlencoded"
_MOST_FIELDS = 1000


@dataclass(frozen=True, slots=True)
class Form:
    """What was typed and chosen, in the order of the page; a name may occur several times."""

    pairs: tuple[tuple[str, str], ...] = ()

    def one(self, name: str, default: str = "") -> str:
        """The first value of that name, without space around it."""
        return next((value.strip() for each, value in self.pairs if each == name), default)

    def all(self, name: str) -> list[str]:
        """Every value of that name."""
        return [value for each, value in self.pairs if each == name]


async def read_form(request: Request) -> Form:
    """The form in the body. Raises Problem: 415 for another media type, 400 for what is no form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _MEDIA_TYPE:
        raise Problem(415, "wrong-media-type", f"a form of this page comes as {_MEDIA_TYPE}")
    try:
        text = (await request.body()).decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Problem(400, "bad-request", "what was sent is not a form of this page") from None
    return Form(tuple((name, value.replace("\r\n", "\n")) for name, value in pairs))
