"""Reads the tables [[alerts.channels]] out of a configuration file that may not even be TOML. Pure."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

_OWN = re.compile(r"\s*\[\[\s*alerts\s*\.\s*channels\s*\]\]")
_BELOW = re.compile(r"\s*\[\s*alerts\s*\.\s*channels\s*\.")
# Also a broken one, such as "[sinks": what follows it is not the channel's.
_HEADER = re.compile(r"\s*\[\[?\s*[A-Za-z]")


def salvage_tables(text: str) -> list[dict[str, Any]]:
    """The channels' tables, in the order of the file; of a broken table the keys that can be read."""
    try:
        found = tomllib.loads(text)["alerts"]["channels"]
    except (tomllib.TOMLDecodeError, RecursionError, KeyError, TypeError):
        return [table for table in map(_read_block, _blocks(text)) if table]
    return [table for table in found if isinstance(table, dict)] if isinstance(found, list) else []


def _blocks(text: str) -> Iterator[list[str]]:
    """The lines of each [[alerts.channels]] with the tables below it, without those of other tables."""
    block: list[str] | None = None
    for line in text.splitlines():
        if _OWN.match(line):
            if block is not None:
                yield block
            block = [line]
        elif _HEADER.match(line) and not _BELOW.match(line):
            if block is not None:
                yield block
            block = None
        elif block is not None:
            block.append(line)
    if block is not None:
        yield block


def _read_block(block: list[str]) -> dict[str, Any]:
    table = _parse(block)
    return _read_keys(block) if table is None else table


def _read_keys(block: list[str]) -> dict[str, Any]:
    """Key by key: what follows a line that cannot be read may still be good. Values may span lines."""
    table = [block[0]]
    rest = block[1:]
    while rest:
        size = next((size for size in range(1, min(len(rest), 20) + 1) if _parse(table + rest[:size]) is not None), 0)
        table += rest[:size]
        rest = rest[size or 1 :]
    return _parse(table) or {}


def _parse(lines: list[str]) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = tomllib.loads("\n".join(lines))["alerts"]["channels"][0]
    except (tomllib.TOMLDecodeError, RecursionError, KeyError, TypeError, IndexError):
        return None
    return found
