"""The native route that tells an administrator how the installation does."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from eventferry import __version__, clock
from eventferry.access.keys import Key
from eventferry.api.auth import Requires
from eventferry.api.native.shown import iso
from eventferry.api.parts import Parts
from eventferry.api.problems import Problem
from eventferry.ledger import books, completeness, export_counts, log
from eventferry.ledger.database import get_meta

IsAdmin = Annotated[Key, Depends(Requires("admin", strict=True))]
_DAY_MS = 86_400_000


class SourceStatus(BaseModel):
    """A source: what the log holds of it, and how long ago everything that its store held was taken."""

    name: str
    events: int
    files: dict[str, int] = Field(description="State of the files → how many.")
    looked: str | None = Field(description="When the last run began that took all there was.")
    lag_seconds: int | None


class ExportsStatus(BaseModel):
    """The exports in figures: failed ones of the last 24 hours, bytes of files that lie here."""

    queued: int
    running: int
    failed: int
    bytes: int


class Status(BaseModel):
    """How the installation does."""

    version: str
    instance: str
    position: int = Field(description="The log's head.")
    heartbeat: str | None = Field(description="When the daemon was last heard of.")
    sources: list[SourceStatus]
    exports: ExportsStatus


def add_to(routes: APIRouter, parts: Parts) -> None:
    """Register the route."""

    @routes.get("/status")
    def get_status(key: IsAdmin) -> Status:
        """The daemon, the sources and the exports; for keys with the scope admin that are limited to nothing."""
        if not key.realm.is_all or key.filter is not None:
            raise Problem(403, "forbidden", "this key is limited to some events, and the status is about all of them")
        now, sources = clock.now_ms(), parts.sources()
        with parts.ledger.read() as tx:
            looked = {each.name: completeness.looked_ms(tx, each.id) for each in sources.values()}
            counts = export_counts.counts(tx, now - _DAY_MS)
            return Status(
                version=__version__,
                instance=parts.config.instance,
                position=log.head(tx),
                heartbeat=iso(get_meta(tx, "heartbeat_ms")),
                sources=[
                    SourceStatus(
                        name=each.source,
                        events=each.events,
                        files=each.states,
                        looked=iso(looked.get(each.source) or None),
                        lag_seconds=(now - looked[each.source]) // 1000 if looked.get(each.source) else None,
                    )
                    for each in books.source_books(tx)
                ],
                exports=ExportsStatus(
                    queued=counts.queued, running=counts.running, failed=counts.failed, bytes=counts.bytes
                ),
            )
