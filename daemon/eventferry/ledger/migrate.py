"""The ledger's schema: brought up to date by Alembic, after a copy of the file."""

import sqlite3
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from eventferry import clock
from eventferry.errors import LedgerError


def _alembic(connection: sa.Connection | None = None) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    return config


def _revisions(engine: sa.Engine) -> tuple[str | None, str | None, set[str]]:
    script = ScriptDirectory.from_config(_alembic())
    with engine.begin() as tx:
        current = MigrationContext.configure(tx).get_current_revision()
    return current, script.get_current_head(), {revision.revision for revision in script.walk_revisions()}


def check_schema(engine: sa.Engine, path: Path) -> None:
    """Refuse a ledger whose schema is not this version's. Raises LedgerError."""
    current, head, known = _revisions(engine)
    if current == head:
        return
    if current is not None and current not in known:
        raise LedgerError(
            f"ledger {path} was written by a newer eventferry (schema {current}); install that version, "
            f"or restore the copy that it made before upgrading"
        )
    raise LedgerError(
        f"ledger {path} has schema {current or 'none'}, this version needs {head}; start the daemon once to upgrade it"
    )


def migrate(engine: sa.Engine, path: Path) -> None:
    """Bring the schema up to date; an existing ledger is copied beside itself first. Raises LedgerError."""
    current, head, known = _revisions(engine)
    if current == head:
        return
    if current is not None and current not in known:
        check_schema(engine, path)
    if current is not None:
        _copy(path)
    with engine.begin() as tx:
        command.upgrade(_alembic(tx), "head")


def _copy(path: Path) -> Path:
    stamp = clock.now().strftime("%Y%m%dT%H%M%S")
    target = path.with_name(f"{path.name}.before-{stamp}")
    target.touch(mode=0o600)
    source = sqlite3.connect(path)
    try:
        with sqlite3.connect(target) as copy:
            source.backup(copy)
        copy.close()
    finally:
        source.close()
    return target
