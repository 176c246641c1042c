"""Writes the letter that says how an export ended: plain for every reader, with a page for those that show one."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from html import escape

from eventferry import clock
from eventferry.alerts.phrases import cut, moment, one_line, size
from eventferry.exports.model import Selection
from eventferry.exports.ranges import range_text
from eventferry.ledger.exports import ExportRow, FileRow

MOST_LINKS = 20  # of more files the page in the console has the rest

_FORMATS = {"csv": "CSV", "ndjson": "NDJSON", "json": "JSON", "parquet": "Parquet"}


@dataclass(frozen=True, slots=True)
class Link:
    """A file with the URL under which it can be downloaded until `until_ms`."""

    file: FileRow
    url: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class Told:
    """All that a letter says. `page` is the export's page in the console; None where there is none."""

    row: ExportRow
    links: Sequence[Link]
    page: str | None
    instance: str


def write_letter(told: Told, sender: str, recipient: str) -> EmailMessage:
    """The letter, ready to send. Each recipient of an export has one Message-ID, so that a repeat is recognised."""
    letter = EmailMessage(policy=SMTP)
    letter["Subject"] = cut(f"[{one_line(told.instance)}] {_heading(told.row)}", 200)
    letter["From"] = sender
    letter["To"] = recipient
    letter["Date"] = format_datetime(clock.from_ms(told.row.finished_ms or clock.now_ms()))
    letter["Message-ID"] = _message_id(told.row, sender, recipient)
    letter["Auto-Submitted"] = "auto-generated"  # no out-of-office replies
    letter["X-Auto-Response-Suppress"] = "All"
    letter.set_content(_plain(told), cte="quoted-printable")
    letter.add_alternative(_page(told), subtype="html", cte="quoted-printable")
    return letter


def _message_id(row: ExportRow, sender: str, recipient: str) -> str:
    digest = hashlib.sha256(f"{row.id}\0{recipient}".encode()).hexdigest()[:32]
    domain = re.sub(r"[^A-Za-z0-9.-]", "", parseaddr(sender)[1].rpartition("@")[2]).strip(".-")
    return f"<{digest}@{domain or 'eventferry.invalid'}>"


def _heading(row: ExportRow) -> str:
    if row.state == "failed":
        return f"Export {_name(row)}failed" if row.name else f"Export failed: {_when(row)}"
    return f"Export {_name(row)}is ready: {'' if row.name else f'{_when(row)}, '}{_events(row)}"


def _name(row: ExportRow) -> str:
    return f"“{cut(one_line(row.name), 80)}” " if row.name else ""


def _when(row: ExportRow) -> str:
    """The range as the console writes it, within a sentence: that tells an export without a name from others."""
    selection = Selection.from_data(row.selection)
    if selection.start_ms is None and selection.end_ms is None:
        return "any time"
    told = range_text(selection.start_ms, selection.end_ms, row.asked)
    return told[:1].lower() + told[1:]


def _events(row: ExportRow) -> str:
    return "no events" if not row.events else f"{row.events:,} event{'' if row.events == 1 else 's'}"


def _opening(row: ExportRow) -> str:
    """What happened, in a sentence or two."""
    whose = f"Your export {_name(row)}".rstrip()
    if row.state == "failed":
        return f"{whose} has failed: {one_line(row.reason or 'no reason is known')}."
    if not row.events:
        return f"{whose} is ready. No event matched, so there is nothing in it."
    return f"{whose} is ready."


def _facts(row: ExportRow) -> list[tuple[str, str]]:
    """Label and value of what is worth knowing."""
    found = [("Range", _range(row))]
    if row.schedule is not None:
        found.append(("Schedule", row.schedule))
    if row.state == "complete":
        plural = f"{row.files:,} file{'' if row.files == 1 else 's'}"
        found += [("Rows", f"{row.events:,}"), ("Size", f"{size(row.bytes)}, {plural}"), ("Format", _format(row))]
        if row.destination["kind"] != "managed":
            found.append(("Where", one_line(str(row.destination["url"]))))
        elif row.expires_ms is not None:
            found.append(("Expires", moment(row.expires_ms)))
    return [*found, ("Export", row.id)]


def _format(row: ExportRow) -> str:
    packed = row.output["compression"]
    return _FORMATS[row.output["format"]] + ("" if packed == "none" else f", {packed}")


def _range(row: ExportRow) -> str:
    selection = Selection.from_data(row.selection)
    if selection.start_ms is None and selection.end_ms is None:
        return "all events"
    if selection.start_ms is None or selection.end_ms is None:
        edge = selection.start_ms if selection.end_ms is None else selection.end_ms
        assert edge is not None
        return f"{'from' if selection.end_ms is None else 'before'} {moment(edge)}"
    return f"{moment(selection.start_ms)} to {moment(selection.end_ms)}"


def _about_links(told: Told) -> str:
    """What goes for the links, in a sentence."""
    one = "This link works" if len(told.links) == 1 else "These links work"
    until = f"{one} until {moment(min(each.until_ms for each in told.links))}, for whoever has it."
    if len(told.links) > 1:
        until = until.replace("whoever has it", "whoever has them")
    return until


def _about_page(told: Told) -> str:
    """What to do with the page in the console, in words before its address."""
    if told.row.state == "failed":
        return "See it, and make it again:"
    if told.links and told.row.files > len(told.links):
        return f"All {told.row.files:,} files, and new links:"
    return "New links, until it expires:" if told.links else "See it:"


def _plain(told: Told) -> str:
    facts = _facts(told.row)
    width = max(len(label) for label, _ in facts)
    lines = [_opening(told.row), "", *(f"{label:<{width}}  {value}" for label, value in facts), ""]
    if told.links:
        lines.append("Download:" if len(told.links) == 1 else "Downloads:")
        for each in told.links:
            lines += ["", f"{each.file.name} ({size(each.file.bytes)})", each.url]
        lines += ["", _about_links(told), ""]
    if told.page is not None:
        lines += [_about_page(told), told.page, ""]
    return "\n".join([*lines, "-- ", f"{one_line(told.instance)}: eventferry", ""])


_FONT = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif;font-size:15px;line-height:1.5"
_BUTTON = (
    "display:inline-block;padding:9px 16px;border-radius:6px;background:#0b6e66;color:#ffffff;text-decoration:none"
)


def _page(told: Told) -> str:
    """The same as a page: tables and inline styles only, which is all that mail readers agree on."""
    rows = "".join(
        f'<tr><td style="padding:3px 24px 3px 0;opacity:.65">{escape(label)}</td>'
        f'<td style="padding:3px 0">{escape(value)}</td></tr>'
        for label, value in _facts(told.row)
    )
    links = "".join(
        f'<p style="margin:12px 0"><a href="{escape(each.url)}" style="{_BUTTON}">Download {escape(each.file.name)}</a>'
        f' <span style="opacity:.65;white-space:nowrap">&nbsp;{size(each.file.bytes)}</span></p>'
        for each in told.links
    )
    if told.links:
        links += f'<p style="margin:12px 0;opacity:.65">{escape(_about_links(told))}</p>'
    page = ""
    if told.page is not None:
        shown = escape(told.page)
        page = f'<p style="margin:12px 0">{escape(_about_page(told))}<br><a href="{shown}">{shown}</a></p>'
    return (
        '<!DOCTYPE html><html><head><meta charset="utf-8"><meta name="color-scheme" content="light dark"></head>'
        f'<body style="margin:0;padding:24px;{_FONT}"><div style="max-width:640px">'
        f'<p style="margin:0 0 16px;font-size:18px"><strong>{escape(_opening(told.row))}</strong></p>'
        f'<table role="presentation" style="border-collapse:collapse;margin:0 0 16px;{_FONT}">{rows}</table>'
        f'{links}{page}<p style="margin:24px 0 0;opacity:.65;font-size:13px">{escape(one_line(told.instance))}: '
        "eventferry</p></div></body></html>\n"
    )
