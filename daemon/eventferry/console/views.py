"""An export as its pages show it."""

import json
from dataclasses import dataclass
from typing import Any

from eventferry.console import conditions, wording
from eventferry.exports import requests
from eventferry.ledger.exports import ExportRow

LABELS = {
    "queued": "Queued",
    "running": "Running",
    "complete": "Ready",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "expired": "Expired",
}
_FORMATS = {"csv": "CSV", "ndjson": "NDJSON", "json": "JSON", "parquet": "Parquet"}
_PACKED = {"gzip": "gzip", "zstd": "zstd"}
_LONGEST_FILTER = 160


@dataclass(frozen=True, slots=True)
class ExportView:
    """Texts and facts of one export; times are epoch ms."""

    id: str
    title: str
    range: str
    filter: str  # in words, cut short
    filter_json: str  # as it was asked for
    origin: str  # by which way it came, where that was not the console
    format: str
    state: str
    label: str
    percent: int
    events: int
    bytes: int
    files: int
    reason: str
    created_ms: int
    finished_ms: int | None
    expires_ms: int | None
    owner_scope: str
    goes_to: str  # the requester's own store; "" where the files stay here
    email: tuple[str, ...]

    @property
    def spoken(self) -> str:
        """By which it is told apart from others."""
        return f"{self.title}, {self.range}"

    @property
    def is_under_way(self) -> bool:
        """Whether anything is still to happen."""
        return self.state in ("queued", "running")

    @property
    def has_figures(self) -> bool:
        """Whether its events and bytes say anything."""
        return self.state in ("complete", "expired") or self.events > 0

    @property
    def can_be_downloaded(self) -> bool:
        """Whether its files lie here."""
        return self.state == "complete" and not self.goes_to

    @property
    def expires(self) -> str:
        """in 6 days; "" where nothing expires any more."""
        return wording.ahead(self.expires_ms) if self.expires_ms and self.state == "complete" else ""


def view(row: ExportRow) -> ExportView:
    """The export of the ledger, made readable."""
    selection = requests.selection_of(row)
    range_ = wording.range_text(selection.start_ms, selection.end_ms, row.asked)
    asked = row.asked.get("filter")
    in_words = conditions.describe(asked) if row.dialect in ("console", "native", "schedule") else ""
    cancelling = row.cancelled and row.state == "running"
    return ExportView(
        id=row.id,
        title=row.name or "Events",
        range=range_,
        filter=in_words if len(in_words) <= _LONGEST_FILTER else in_words[: _LONGEST_FILTER - 1] + "…",
        filter_json=json.dumps(asked, indent=2, ensure_ascii=False) if asked else "",
        origin=_origin(row),
        format=_format(row.output),
        state=row.state,
        label="Cancelling" if cancelling else LABELS[row.state],
        percent=row.percent,
        events=row.events,
        bytes=row.bytes,
        files=row.files,
        reason=row.reason or "",
        created_ms=row.created_ms,
        finished_ms=row.finished_ms,
        expires_ms=row.expires_ms,
        owner_scope=_scope(json.loads(row.scope)),
        goes_to="" if row.destination["kind"] == "managed" else str(row.destination["url"]),
        email=tuple(row.notify["email"]),
    )


def _origin(row: ExportRow) -> str:
    if row.schedule:
        return f"Schedule {row.schedule}"
    return {"console": "", "native": "API"}.get(row.dialect, f"{row.dialect.capitalize()} API")


def _format(output: Any) -> str:
    packed = _PACKED.get(output["compression"])
    return " · ".join([_FORMATS[output["format"]], *([packed] if packed else [])])


def _scope(data: Any) -> str:
    """Tenant acme · Collections page_views, clicks; "" where it is everybody's."""
    told = []
    for plural, names in data.items():
        if names is not None:
            word = plural if len(names) != 1 else plural.removesuffix("s")
            told.append(f"{word.capitalize()} {', '.join(names) or '(none)'}")
    return " · ".join(told)
