"""What a reload found: the new configuration or why it was refused, kept in the ledger for `status`."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import sqlalchemy as sa

from eventferry import clock
from eventferry.ledger import Ledger, alerts
from eventferry.ledger.database import get_meta, set_meta

CAUSE = "config.refused"


@dataclass(frozen=True, slots=True)
class Loaded:
    """Which edit of the configuration is at work, and what became of the last attempt to load another."""

    path: str
    digest: str  # of the file that is at work
    loaded_ms: int
    refused_digest: str | None = None
    refused_ms: int | None = None
    problems: list[str] = field(default_factory=list)


def digest_of(path: Path) -> str:
    """A short digest of the file as it is now; "" where it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def get_loaded(tx: sa.Connection) -> Loaded | None:
    """What the daemon says it has loaded."""
    found = get_meta(tx, "config")
    return None if found is None else Loaded(**found)


def note_loaded(ledger: Ledger, path: Path, digest: str) -> None:
    """The configuration of this digest is at work."""
    with ledger.write() as tx:
        set_meta(tx, "config", asdict(Loaded(str(path), digest, clock.now_ms())))
        alerts.close_condition(tx, CAUSE, subject="The configuration is loaded again")


def note_refused(ledger: Ledger, path: Path, digest: str, problems: tuple[str, ...]) -> None:
    """An edit was refused; the old configuration stays at work."""
    with ledger.write() as tx:
        was = get_loaded(tx)
        known = (was.digest, was.loaded_ms) if was else ("", 0)
        refused = Loaded(str(path), *known, refused_digest=digest, refused_ms=clock.now_ms(), problems=list(problems))
        set_meta(tx, "config", asdict(refused))
        alerts.open_condition(
            tx,
            cause=CAUSE,
            level="error",
            event="config.refused",
            subject="An edit of the configuration was refused; the old one stays at work",
            detail="\n".join(problems[:5]),
            command=f"eventferry check --config {path}",
        )
