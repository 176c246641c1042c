"""Tells people, and their programs, how their exports ended: letters and webhooks, tried again for hours."""

import json
import threading
from typing import Any
from urllib.parse import urlsplit

from eventferry import clock
from eventferry.access.links import make_link
from eventferry.alerts.channels.base import ChannelError
from eventferry.exports.desk import Desk
from eventferry.exports.letter import MOST_LINKS, Link, Told, write_letter
from eventferry.ledger import alerts, export_notices, exports
from eventferry.ledger.export_notices import NoticeRow
from eventferry.ledger.exports import ExportRow
from eventferry.logs import get_logger, redact

# Seconds between tries; after the last one it is given up: nearly six hours.
PAUSES = (30, 120, 480, 1800, 3600, 7200, 7200)
# A link in a letter is as good as the file for whoever reads along: it does not live longer than this.
LINK_LIFE_MS = 86_400_000
# Letters, and webhooks, under way at once: those that hang delay neither the other kind nor the daemon.
AT_ONCE = 8
WEBHOOK_SECONDS = 15.0

logger = get_logger()


class NoticeRefused(Exception):
    """The notice was not taken. `for_good`: it never will be."""

    def __init__(self, text: str, *, for_good: bool = False) -> None:
        super().__init__(text)
        self.for_good = for_good


class Teller:
    """Sends due notices, each on a thread of its own. Call `pump` every few seconds; it waits for nobody."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._under_way: dict[int, str] = {}  # notice → kind
        self._lock = threading.Lock()

    def use(self, desk: Desk) -> None:
        """Go by another configuration from the next notice on."""
        self._desk = desk

    def pump(self) -> None:
        """Begin to send what is due."""
        now = clock.now_ms()
        with self._desk.ledger.read() as tx:
            due = export_notices.due(tx, now, 100)
        for notice in due:
            with self._lock:
                busy = [kind for kind in self._under_way.values() if kind == notice.kind]
                if notice.id in self._under_way or len(busy) >= AT_ONCE:
                    continue
                self._under_way[notice.id] = notice.kind
            threading.Thread(target=self._tell, args=(notice, now), name=f"notice-{notice.id}", daemon=True).start()

    def _tell(self, notice: NoticeRow, now: int) -> None:
        try:
            self._try(notice, now)
        except Exception:  # the ledger: the notice is still due
            logger.exception("notice.failed", export=notice.export_id, kind=notice.kind)
        finally:
            with self._lock:
                self._under_way.pop(notice.id, None)

    def _try(self, notice: NoticeRow, now: int) -> None:
        desk = self._desk
        with desk.ledger.read() as tx:
            # Pump may have looked just before this notice was recorded as sent.
            waiting = [each for each in export_notices.of_export(tx, notice.export_id) if each.state == "pending"]
            row = exports.get(tx, notice.export_id)
            files = exports.files(tx, notice.export_id)
        if row is None or notice.id not in [each.id for each in waiting]:
            return
        if row.deleted_ms is not None:
            with desk.ledger.write() as tx:
                export_notices.drop(tx, notice.id)
            return
        told = Told(row, _links(desk, row, files, now), desk.page_of(row.id), desk.instance)
        try:
            if notice.kind == "email":
                _send_letter(desk, told, notice.address)
            else:
                _post(desk, told, notice.address)
        except Exception as error:
            self._record_failure(notice, row, error, now)
            return
        with desk.ledger.write() as tx:
            export_notices.note_sent(tx, notice.id)
        logger.info("notice.sent", export=row.id, kind=notice.kind, state=row.state)

    def _record_failure(self, notice: NoticeRow, row: ExportRow, error: Exception, now: int) -> None:
        text = redact(str(error) if isinstance(error, NoticeRefused) else f"{type(error).__name__}: {error}")
        over = notice.attempts >= len(PAUSES) or (isinstance(error, NoticeRefused) and error.for_good)
        again = None if over else now + PAUSES[notice.attempts] * 1000
        with self._desk.ledger.write() as tx:
            export_notices.note_failed(tx, notice.id, text, again)
            if again is None:
                what = "A letter" if notice.kind == "email" else "A webhook"
                alerts.write_notice(
                    tx,
                    event="notice.failed",
                    level="warning",
                    subject=f"{what} about an export could not be sent; nobody was told that it is {row.state}",
                    detail=text,
                    fields={"export": row.id, "tries": notice.attempts + 1},
                )
        if again is not None:
            logger.warning("notice.delayed", export=row.id, kind=notice.kind, tries=notice.attempts + 1, error=text)


def _links(desk: Desk, row: ExportRow, files: list[exports.FileRow], now: int) -> list[Link]:
    """Links to the first files, valid for a day, or until they expire."""
    if row.state != "complete" or row.destination["kind"] != "managed" or row.expires_ms is None:
        return []
    until = min(row.expires_ms, now + LINK_LIFE_MS)
    return [
        Link(each, desk.base_url + make_link(desk.keyring, row.id, each.name, until), until)
        for each in files[:MOST_LINKS]
    ]


def _send_letter(desk: Desk, told: Told, address: str) -> None:
    """Send it through the e-mail channel. Raises NoticeRefused."""
    from eventferry.alerts.channels.smtp import smtp_session

    if desk.mail is None:
        raise NoticeRefused(
            "no e-mail channel is configured to send letters through; add one under [[alerts.channels]]"
        )
    letter = write_letter(told, desk.mail.sender, address)
    try:
        with smtp_session(desk.mail) as server:
            server.send_message(letter)
    except ChannelError as error:
        raise NoticeRefused(str(error), for_good=error.refused) from None


def _post(desk: Desk, told: Told, url: str) -> None:
    """Post it to the webhook. Raises NoticeRefused."""
    from eventferry.exports.egress import Egress, EgressRefused
    from eventferry.sink.errors import SinkError

    body = json.dumps(webhook_body(told)).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": told.row.id}
    egress = Egress(desk.settings.allow_endpoints)
    try:
        answer = egress.exchange("POST", url, body, headers, timeout=WEBHOOK_SECONDS)
    except EgressRefused as error:
        raise NoticeRefused(str(error), for_good=True) from None
    except SinkError as error:
        raise NoticeRefused(str(error)) from None
    if not 200 <= answer.status < 300:
        who = urlsplit(url).hostname
        raise NoticeRefused(f"{who} answered {answer.status}; expected 2xx", for_good=answer.status == 410)


def webhook_body(told: Told) -> dict[str, Any]:
    """What a webhook gets. Times are ISO 8601 in UTC; `url` of a file works until `url_expires`."""
    row = told.row
    return {
        "id": row.id,
        "state": row.state,
        "name": row.name,
        "reason": row.reason,
        "events": row.events,
        "bytes": row.bytes,
        "files": [
            {
                "name": each.file.name,
                "events": each.file.events,
                "bytes": each.file.bytes,
                "sha256": each.file.sha256,
                "url": each.url,
                "url_expires": _iso(each.until_ms),
            }
            for each in told.links
        ],
        "file_count": row.files,
        "created": _iso(row.created_ms),
        "finished": _iso(row.finished_ms),
        "expires": _iso(row.expires_ms),
        "page": told.page,
    }


def _iso(ms: int | None) -> str | None:
    return None if ms is None else clock.from_ms(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
