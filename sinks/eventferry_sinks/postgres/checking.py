"""The steps that prove that a delivery could work, each a sentence for the operator."""

import secrets
from dataclasses import dataclass
from typing import Any

from eventferry.sink import Batch, Part, SinkMisconfigured
from eventferry.sink.books import BATCHES, PARTS
from eventferry.sink.postgresql.session import Session
from eventferry_sinks.postgres.table import Design, books_there, check_logged, columns_there, fit, quoted, schema_there


@dataclass(frozen=True, slots=True)
class Place:
    """What is looked at: a cursor on the server, how it was reached, the table as it should be."""

    cursor: Any
    session: Session
    design: Design
    create: bool

    def ask(self, question: str, *values: object) -> Any:
        """The first value of the first row."""
        self.cursor.execute(question, values)
        return self.cursor.fetchall()[0][0]


def versions(place: Place) -> str:
    """It can be reached."""
    return f"{place.session.who} runs PostgreSQL {place.ask('SHOW server_version')}"


def account(place: Place) -> str:
    """Somebody is logged in."""
    how = "under TLS" if place.session.is_encrypted else "without TLS"
    return f"it takes the user {place.ask('SELECT current_user')}, {how}"


def abilities(place: Place) -> str:
    """It takes writes, and every character."""
    who = place.session.who
    if place.ask("SELECT pg_is_in_recovery()"):
        raise SinkMisconfigured(f"{who} is a standby, which only reads; name the primary in dsn")
    if place.ask("SHOW transaction_read_only") == "on":
        raise SinkMisconfigured(f"{who} only reads: default_transaction_read_only is on for this user or database")
    encoding = place.ask("SHOW server_encoding")
    if encoding != "UTF8":
        raise SinkMisconfigured(
            f"{who}: the database has the encoding {encoding}; use one in UTF8, which has all characters"
        )
    if place.ask("SHOW synchronous_commit") == "off":
        return "it takes writes, and syncs those of eventferry at each commit, although synchronous_commit is off"
    return "it takes writes"


def layout(place: Place) -> str:
    """The table is there, or can be made to fit."""
    design = place.design
    check_logged(place.cursor, design, place.session.who)
    there = columns_there(place.cursor, design.schema, design.name)
    has_schema = bool(there) or schema_there(place.cursor, design.schema)
    found = fit(design, there, place.session.who, create=place.create, has_schema=has_schema)
    if not there:
        return f"table {design.said} is not there yet and will be made by the first delivery"
    if found.added:
        return f"table {design.said} is there; the first delivery adds {', '.join(found.added)}"
    if found.discarded:
        return f"table {design.said} is there; it lacks {', '.join(found.discarded)}, whose values are discarded"
    return f"table {design.said} has all {len(design.types())} columns"


def rights(place: Place) -> str:
    """The user may do what deliveries and replacements do; what it may not, the trial says in the server's words."""
    design, user = place.design, place.session.user
    books = "the books are there" if books_there(place.cursor, design.schema) else "the first delivery makes the books"
    said = f"{BATCHES} and {PARTS}: {books} in schema {design.schema}"
    table = design.sql_name
    if not place.ask("SELECT to_regclass(%s) IS NOT NULL", table):
        return said
    question = "SELECT has_table_privilege(%s, %s)"
    lacking = [each for each in ("SELECT", "DELETE") if not place.ask(question, table, each)]
    if not lacking:
        return f"{said}; events may be replaced"
    return (
        f"{said}; `replay --replace` would be refused, until somebody runs:"
        f" GRANT {', '.join(lacking)} ON {table} TO {quoted(user)}"
    )


def trial_batch() -> Batch:
    """A batch of one event that nobody sent, to be rolled back."""
    body = b'{"event_type":"eventferry.check"}\n'
    part = Part("eventferry", "check", "0" * 32, 0, len(body), 1)
    return Batch(id=secrets.token_hex(16), body=body, events=1, parts=(part,), epoch="check")
