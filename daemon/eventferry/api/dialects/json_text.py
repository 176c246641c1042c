"""Reads JSON as people write it into requests, and says in which line and column it is broken."""

import json
from typing import Any, NoReturn

from fastapi import Request

_FAULTS = {
    "Expecting ',' delimiter": "a comma, or a closing bracket, is missing before this place",
    "Expecting property name enclosed in double quotes": "a name in double quotes is missing here",
    "Expecting value": "a value is missing here",
    "Extra data": "the text goes on after its end",
}


class NotJson(ValueError):
    """The text is not JSON; the message is a sentence that names the place."""


def read_json(text: str | bytes) -> Any:
    """The value of JSON text in UTF-8. Raises NotJson."""
    try:
        return json.loads(text if isinstance(text, str) else text.decode("utf-8-sig"), parse_constant=_refuse)
    except json.JSONDecodeError as error:
        fault = _FAULTS.get(error.msg, error.msg[:1].lower() + error.msg[1:])
        raise NotJson(f"it is not JSON: {fault} (line {error.lineno}, column {error.colno})") from None
    except UnicodeDecodeError as error:
        raise NotJson(f"it is not JSON: byte {error.start + 1} is not UTF-8") from None
    except RecursionError:
        raise NotJson("it is nested too deeply") from None
    except ValueError:  # from the parsing of single values
        raise NotJson("it holds a number that is none: NaN, Infinity, or one of thousands of digits") from None


async def read_body(request: Request) -> bytes:
    """The whole body, at most [api] max_body: a dependency of routes that say themselves where it is broken."""
    return await request.body()


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a value")
