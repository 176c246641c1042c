"""Carries hostile files through the product and says what became of them; measures what that costs in memory."""

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import freezegun
import sqlalchemy as sa
from tests.builders import HOUR, Ferry, put

from eventferry.ledger import tables as t
from eventferry.ledger.alerts import Condition
from eventferry.ledger.books import SourceBooks

CHECKOUT = Path(__file__).parents[2]
MIB = 1024 * 1024


@dataclass(frozen=True)
class Carried:
    """What became of some files: the events that arrived, and what the ledger says."""

    lines: list[bytes]
    states: dict[str, str]  # by the last part of the key
    reasons: dict[str, str]
    bad: list[tuple[int, int, int, str]]  # line, offset, length, reason
    book: SourceBooks
    alerts: dict[str, Condition]
    messages: int

    @property
    def body(self) -> bytes:
        """All events, each with its newline."""
        return b"".join(line + b"\n" for line in self.lines)


def carry(home: Path, files: dict[str, bytes], *, top: dict[str, Any] | None = None, **source: Any) -> Carried:
    """Put files of these names and bytes into a store, index them once, deliver what is good."""
    with Ferry(home) as ferry:
        ferry.sources["events"].update(source)
        ferry.top |= top or {}
        for name, content in files.items():
            ferry.put(f"{HOUR}/{name}", content, packed=False, age=7200)
        ferry.open()
        ferry.index()
        return deliver_and_look(ferry)


def carry_young(home: Path, files: dict[str, bytes], look: list[Carried]) -> Carried:
    """As carry, for files that may still be being written: `look` gets what is so before they are old enough."""
    with Ferry(home) as ferry:
        with freezegun.freeze_time() as time:
            for name, content in files.items():
                ferry.put(f"{HOUR}/{name}", content, packed=False, age=600)
            ferry.open()
            ferry.index()
            look.append(deliver_and_look(ferry, deliver=False))
            time.tick(3601)
            ferry.index()
        return deliver_and_look(ferry)


def deliver_and_look(ferry: Ferry, *, deliver: bool = True) -> Carried:
    """What arrives in the end, and what the ledger says then; the books must balance."""
    if deliver:
        ferry.deliver()
    rows = ferry.objects()
    columns = (t.bad_lines.c.line, t.bad_lines.c.offset, t.bad_lines.c.length, t.bad_lines.c.reason)
    bad = ferry.rows(sa.select(*columns).order_by(t.bad_lines.c.object_id, t.bad_lines.c.line))
    return Carried(
        lines=ferry.script().lines(),
        states={Path(row.key).name: row.state for row in rows},
        reasons={Path(row.key).name: row.reason or "" for row in rows},
        bad=[tuple(row) for row in bad],
        book=ferry.source_book(),
        alerts=ferry.conditions(),
        messages=ferry.rows(sa.select(sa.func.count()).select_from(t.messages))[0][0],
    )


# Runs in a process of its own, whose peak is nobody else's: getrusage() would count that of the process before exec.
_MEASURED = """
import json, re, sys, time
from pathlib import Path
from tests.acceptance.hostile import deliver_and_look
from tests.builders import Ferry

def memory(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

with Ferry(Path(sys.argv[1])) as ferry:
    ferry.sources["events"].update(json.loads(sys.argv[2]))
    ferry.sources["events"]["max_files"] = 1
    ferry.open()
    ferry.index()  # the first file: everything is imported and was used once
    ferry.deliver()
    before = memory("VmRSS")
    ferry.sources["events"]["max_files"] = int(sys.argv[3])
    ferry.open()
    report = ferry.index()
    found = deliver_and_look(ferry)
    grown = memory("VmHWM") - before
    assert report.error is None, report.error
    print(json.dumps({
        "grown": grown, "listed": report.discovery.listed, "taken": len(report.discovery.found),
        "states": found.states, "reasons": found.reasons, "bad": found.bad, "events": len(found.lines),
        "numbers": [json.loads(line)["n"] for line in found.lines[:20]], "messages": found.messages,
        "causes": list(found.alerts),
    }))
"""


def measure(home: Path, name: str, content: bytes, *, files: int = 10, **source: Any) -> dict[str, Any]:
    """Carry one more file in a process of its own: what became of it, and by how many bytes the process grew."""
    put(home / "events", f"{HOUR}/0-first.ndjson", b'{"n":0}\n')
    if name:
        put(home / "events", f"{HOUR}/{name}", content, packed=False, age=7200)
    command = [sys.executable, "-c", _MEASURED, str(home), json.dumps(source), str(files)]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environ["PYTHONPATH"] = str(CHECKOUT)
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, env=environ)
    with contextlib.suppress(IndexError):
        return json.loads(done.stdout.splitlines()[-1])
    raise AssertionError(done.stderr)
