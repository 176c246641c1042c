"""Writes to the terminal: sentences, marks and tables for people, JSON for programs."""

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from eventferry.cli.options import calling
from eventferry.logs import escape, redact

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# Pipes and journals have no width of their own; people read them in wide windows.
PLAIN_WIDTH = 140
WIDE = 110
OK, BAD, MIND, NEXT = "✓", "✗", "!", "→"
_STYLES = {OK: "green", BAD: "bold red", MIND: "yellow", NEXT: "cyan"}
_to_stderr = False


@contextmanager
def all_to_stderr(wanted: bool) -> Iterator[None]:
    """Leave standard output to somebody else, such as a sink that writes events to it."""
    global _to_stderr
    before, _to_stderr = _to_stderr, wanted
    try:
        yield
    finally:
        _to_stderr = before


def console(*, err: bool = False) -> "Console":
    """Where text goes; made anew each time, because streams are swapped in tests and under progress bars."""
    from rich.console import Console

    err = err or _to_stderr
    is_terminal = (sys.stderr if err else sys.stdout).isatty()
    return Console(stderr=err, highlight=False, emoji=False, width=None if is_terminal else PLAIN_WIDTH)


def clean(text: str) -> str:
    """One line that shows no secret and obeys no control character."""
    return escape(redact(text))


def styled(text: object, style: str = "") -> "Text":
    """Text for a table's cell; nothing in it is taken for markup."""
    from rich.text import Text

    return Text(clean(str(text)), style=style)


def say(text: str = "", style: str = "", *, err: bool = False) -> None:
    """Print a text, line by line; lines are not broken, so that they can be copied."""
    for line in text.split("\n"):
        console(err=err).print(styled(line, style), soft_wrap=True)


def mark(sign: str, text: str, *, indent: int = 0, err: bool = False) -> None:
    """Print a sentence behind a coloured sign; further lines stand below it."""
    from rich.text import Text

    first, *rest = text.split("\n")
    line = Text.assemble(" " * indent, (sign, _STYLES[sign]), " ", clean(first))
    console(err=err).print(line, soft_wrap=True)
    for more in rest:
        console(err=err).print(styled(" " * (indent + 2) + more), soft_wrap=True)


def advise(command: str, *, indent: int = 2) -> None:
    """Print what to run next, so that it can be copied: with the configuration that this command was about."""
    mark(NEXT, re.sub(r"(^|; |: )eventferry(?= )", lambda found: found[1] + calling(), command), indent=indent)


def heading(text: str) -> None:
    """Begin a part of the output."""
    say()
    say(text, "bold")


def is_wide() -> bool:
    """Whether there is room for what is merely good to know."""
    return console().width >= WIDE


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; a column whose name begins with `>` holds numbers, one with `~` may be cut short."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, header_style="dim", pad_edge=False, padding=(0, 1, 0, 0), show_edge=False)
    for name in columns:
        made.add_column(
            name.lstrip(">~"),
            justify="right" if name.startswith(">") else "left",
            no_wrap=not name.startswith("~"),
            overflow="fold" if name.startswith("~") else "ellipsis",
        )
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else styled(cell) for cell in row))
    console().print(made)


def print_json(data: Any) -> None:
    """Print JSON for a program, redacted and never broken into lines by a width."""
    sys.stdout.write(json.dumps(_redacted(data), indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _redacted(data: Any) -> Any:
    if isinstance(data, str):
        return redact(data)
    if isinstance(data, dict):
        return {key: _redacted(value) for key, value in data.items()}
    return [_redacted(value) for value in data] if isinstance(data, list | tuple) else data


def complain(problems: Iterable[str]) -> None:
    """Print what went wrong to standard error; under systemd with the priority that `journalctl -p err` looks for."""
    if os.environ.get("JOURNAL_STREAM"):
        for problem in problems:
            sys.stderr.write("".join(f"<3>{clean(line)}\n" for line in problem.split("\n")))
        sys.stderr.flush()
        return
    for problem in problems:
        mark(BAD, problem, err=True)
