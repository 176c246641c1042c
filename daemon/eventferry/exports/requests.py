"""The service over exports: every surface asks for, looks at and ends exports through these functions."""

import contextlib
import hashlib
import importlib.util
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from eventferry.config.recipients import MOST_LETTERS, fault_of_address
from eventferry.exports import folders, visibility
from eventferry.exports.desk import Desk
from eventferry.exports.destination import CREDENTIALS, target_of
from eventferry.exports.egress import Egress, EgressRefused
from eventferry.exports.finished import MANIFEST as MANIFEST
from eventferry.exports.finished import OpenFile as OpenFile
from eventferry.exports.finished import open_linked_file as open_linked_file
from eventferry.exports.model import Selection
from eventferry.exports.refusals import Conflict, NotFound, NotPossible, TooMany
from eventferry.exports.s3_target import TargetRefused
from eventferry.exports.wanted import S3, Requester, Wanted
from eventferry.ledger import exports, log
from eventferry.ledger.exports import ExportRow, FileRow
from eventferry.logs import get_logger
from eventferry.query.scope import ALL

# When a queue that is full is worth another try, seconds.
RETRY_AFTER = 30

logger = get_logger()


@dataclass(frozen=True, slots=True)
class Page:
    """Some exports, newest first; `next` is the `after` of the next page, None where this is the last."""

    rows: list[ExportRow]
    next: int | None


# -- asking for -------------------------------------------------------------------------------------------------------


def create(desk: Desk, key: Requester | None, wanted: Wanted) -> ExportRow:
    """Queue an export within the limits of the key, pinned to what the log holds now; the daemon takes it up in 2 s.

    With an `idempotency_key` that this key used for the same request before, that export. Without a key (the operator
    asks) nothing is limited. Raises NotPossible, TooMany and Conflict.
    """
    _check(desk, wanted)
    export_id = str(uuid.uuid4())
    values = _values(key, wanted)
    secret = None
    if isinstance(wanted.destination, S3):
        plain = json.dumps(wanted.destination.credentials()).encode()
        secret = desk.keyring.encrypt(CREDENTIALS, export_id.encode(), plain)
    with desk.ledger.write() as tx:
        if (known := _made_before(tx, key, wanted, values["request_digest"])) is not None:
            return known
        limit = desk.settings.queued_per_key
        if key is not None and exports.count_queued(tx, key.id) >= limit:
            raise TooMany(limit, RETRY_AFTER)
        made = exports.insert(tx, id=export_id, credentials=secret, as_of=log.head(tx), **values)
    _log_queued(made)
    return made


def create_scheduled(desk: Desk, tx: sa.Connection, wanted: Wanted) -> ExportRow:
    """The same for a schedule, inside the transaction that says that it has fired. Raises NotPossible."""
    _check(desk, wanted)
    made = exports.insert(tx, id=str(uuid.uuid4()), as_of=log.head(tx), **_values(None, wanted))
    _log_queued(made)
    return made


def _log_queued(made: ExportRow) -> None:
    logger.info("export.queued", export=made.id, dialect=made.dialect, key=made.key_id, schedule=made.schedule)


def _check(desk: Desk, wanted: Wanted) -> None:
    """Refuse what can be known not to work. Raises NotPossible."""
    output, notify = wanted.output, wanted.notify
    if output.format == "parquet":
        if output.compression != "none":
            raise NotPossible("output.compression", "Parquet is compressed inside (zstd); ask for compression none")
        if importlib.util.find_spec("pyarrow") is None:
            raise NotPossible(
                "output.format", "this installation cannot write Parquet; install eventferry[parquet], or ask for csv"
            )
    if notify.email and desk.mail is None:
        raise NotPossible(
            "notify.email",
            "no e-mail channel is configured to send letters through; add one under [[alerts.channels]] and name it in "
            "exports.mail_through",
        )
    if len(notify.email) > MOST_LETTERS:
        raise NotPossible("notify.email", f"{len(notify.email)} addresses are more than {MOST_LETTERS}")
    for address in notify.email:
        fault = fault_of_address(address)
        if fault:
            raise NotPossible("notify.email", fault)
    if notify.webhook is not None:
        _check_webhook(desk, notify.webhook)
    if isinstance(wanted.destination, S3):
        _check_target(desk, wanted.destination)


def _check_webhook(desk: Desk, url: str) -> None:
    try:
        Egress(desk.settings.allow_endpoints).check(url)
    except EgressRefused as error:
        raise NotPossible("notify.webhook", str(error)) from None


def _check_target(desk: Desk, destination: S3) -> None:
    for package, extra in (("boto3", "s3"), ("cryptography", "api")):
        if importlib.util.find_spec(package) is None:
            raise NotPossible("destination", f"this installation cannot write to S3; install eventferry[{extra}]")
    try:
        target_of(destination.to_data(), Egress(desk.settings.allow_endpoints))
    except TargetRefused as error:
        raise NotPossible("destination.url", str(error)) from None


def _values(key: Requester | None, wanted: Wanted) -> dict[str, Any]:
    """The columns of a new export."""
    realm = ALL if key is None else key.realm
    key_filter = None if key is None else key.filter
    asked_scope = visibility.in_order(wanted.selection.scope)
    selection = replace(
        wanted.selection,
        scope=asked_scope.narrowed(visibility.in_order(realm)),
        filter=visibility.both(wanted.selection.filter, key_filter),
    )
    return {
        "key_id": None if key is None else key.id,
        "key_filter": visibility.stored_filter(key_filter),
        "scope": visibility.stored_scope(visibility.owner_scope(realm, asked_scope)),
        "dialect": wanted.dialect,
        "name": wanted.name,
        "notes": wanted.notes,
        "tags": list(wanted.tags),
        "details": dict(wanted.details),
        "asked": dict(wanted.asked),
        "selection": selection.to_data(),
        "output": wanted.output.to_data(),
        "destination": wanted.destination.to_data(),
        "notify": wanted.notify.to_data(),
        "idempotency_key": wanted.idempotency_key,
        "request_digest": None if wanted.idempotency_key is None else _digest(wanted),
        "schedule": wanted.schedule,
    }


def _made_before(tx: sa.Connection, key: Requester | None, wanted: Wanted, digest: str) -> ExportRow | None:
    if key is None or wanted.idempotency_key is None:
        return None
    known = exports.find_idempotent(tx, key.id, wanted.idempotency_key)
    if known is not None and known.request_digest != digest:
        raise Conflict(
            f"the Idempotency-Key {wanted.idempotency_key!r} came with another request before; use a new one for this"
        )
    return known


def _digest(wanted: Wanted) -> str:
    """Equal for equal requests, whenever they come: relative times count as they were written."""
    asked = {
        "asked": dict(wanted.asked),
        "scope": visibility.in_order(wanted.selection.scope).to_data(),
        "output": wanted.output.to_data(),
        "destination": wanted.destination.to_data(),
        "notify": wanted.notify.to_data(),
        "described": [wanted.name, wanted.notes, list(wanted.tags), wanted.dialect],
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


# -- looking at -------------------------------------------------------------------------------------------------------


def get(desk: Desk, key: Requester, export_id: str) -> ExportRow:
    """The export, if it exists for this key. Raises NotFound."""
    with desk.ledger.read() as tx:
        return _find(tx, key, export_id)


def list_page(
    desk: Desk,
    key: Requester,
    *,
    limit: int = 50,
    after: int | None = None,
    state: str | None = None,
    dialect: str | None = None,
    tag: str | None = None,
    name: str | None = None,
    created_from: int | None = None,
    created_to: int | None = None,
) -> Page:
    """The exports that exist for this key, newest first; `after` is the `next` of the page before."""
    with desk.ledger.read() as tx:
        whose = {each for each in exports.owners(tx) if visibility.may_see(key, *each)}
        rows = exports.page(
            tx,
            whose,
            limit=limit + 1,
            before_seq=after,
            state=state,
            dialect=dialect,
            tag=tag,
            name=name,
            created_from=created_from,
            created_to=created_to,
        )
    return Page(rows[:limit], rows[limit - 1].seq if len(rows) > limit else None)


def files(desk: Desk, key: Requester, export_id: str) -> list[FileRow]:
    """The files of a complete export, in order; none before, and none once they have expired. Raises NotFound."""
    with desk.ledger.read() as tx:
        row = _find(tx, key, export_id)
        return exports.files(tx, row.id) if row.state == "complete" else []


def selection_of(row: ExportRow) -> Selection:
    """What the export selects, the limits of its key included."""
    return Selection.from_data(row.selection)


def open_file(desk: Desk, key: Requester, export_id: str, name: str) -> OpenFile:
    """A file of a complete export of this key. Raises NotFound, Gone and NotReady."""
    with desk.ledger.read() as tx:
        _find(tx, key, export_id)
    return open_linked_file(desk, export_id, name)


def _find(tx: sa.Connection, key: Requester, export_id: str) -> ExportRow:
    row = exports.get(tx, export_id)
    if row is None or row.deleted_ms is not None or not visibility.may_see(key, row.scope, row.key_filter):
        raise NotFound(f"there is no export {export_id}")
    return row


# -- ending -----------------------------------------------------------------------------------------------------------


def cancel(desk: Desk, key: Requester, export_id: str) -> ExportRow:
    """End a queued export now, a running one within 2 s; one that has ended stays as it is. Raises NotFound."""
    with desk.ledger.write() as tx:
        _find(tx, key, export_id)
        exports.ask_cancel(tx, export_id)
        return _find(tx, key, export_id)


def delete(desk: Desk, key: Requester, export_ids: str | Sequence[str]) -> None:
    """Forget exports with their files and links, running ones cancelled first. Raises NotFound, and deletes nothing."""
    ids = [export_ids] if isinstance(export_ids, str) else list(export_ids)
    with desk.ledger.write() as tx:
        for each in ids:
            _find(tx, key, each)
        for each in ids:
            exports.delete(tx, each)
    for each in ids:  # objects in a bucket go with the daemon's next sweep: it is not waited for a store here
        with contextlib.suppress(OSError):  # the same sweep tries again
            folders.remove(desk.folder, each)
        logger.info("export.deleted", export=each)
