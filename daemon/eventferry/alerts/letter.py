"""Renders a message as an e-mail that threads with the others about its cause."""

import hashlib
import re
from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from eventferry import clock
from eventferry.alerts.message import Message
from eventferry.alerts.phrases import cut, heading, one_line
from eventferry.alerts.render import plain_text
from eventferry.ledger.alerts import ENDS


def compose(message: Message, sender: str, recipients: Sequence[str]) -> EmailMessage:
    """The letter, ready to send. The same message always makes the same letter, so a repeat can be recognised."""
    letter = EmailMessage(policy=SMTP)
    letter["Subject"] = cut(f"[{one_line(message.instance)}] {heading(message)}", 200)
    letter["From"] = sender
    letter["To"] = ", ".join(recipients)
    letter["Date"] = format_datetime(clock.from_ms(message.created_ms))
    first, own = _thread_id(message), _own_id(message)
    letter["Message-ID"] = own
    if own != first:
        letter["In-Reply-To"] = first
        letter["References"] = first
    letter["Auto-Submitted"] = "auto-generated"  # no out-of-office replies
    letter["X-Auto-Response-Suppress"] = "All"
    letter["X-Eventferry-Event"] = one_line(message.event)
    if message.level == "error" and message.kind in ("problem", "failure"):
        letter["Importance"] = "high"
    letter.set_content(plain_text(message), cte="quoted-printable")
    return letter


def _own_id(message: Message) -> str:
    starts_thread = message.kind == "problem" and message.created_ms == message.since_ms
    if starts_thread:
        return _thread_id(message)
    return _id(message, message.kind, str(message.id), str(message.created_ms))


def _thread_id(message: Message) -> str:
    if message.kind not in ("problem", "reminder", *ENDS):
        return _id(message, message.kind, str(message.id), str(message.created_ms))
    return _id(message, message.cause, str(message.since_ms))


def _id(message: Message, *parts: str) -> str:
    digest = hashlib.sha256("\0".join([message.instance, message.host, *parts]).encode()).hexdigest()[:32]
    domain = re.sub(r"[^A-Za-z0-9.-]", "", message.host).strip(".-") or "eventferry.invalid"
    return f"<{digest}@{domain}>"
