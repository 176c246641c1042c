"""Renders a message as plain text, for Slack, and as JSON. Pure: values in, values out."""

from typing import Any

from eventferry.alerts.message import Message
from eventferry.alerts.phrases import cut, duration, facts, heading, lines_of, moment, one_line, signature
from eventferry.ledger.alerts import ENDS

_SIGNS = {"error": "🔴", "warning": "🟠", "info": "🔵", "debug": "⚪"}
# Slack refuses a block above its limits: 3000 characters of text, 10 fields of 2000.
SLACK_TEXT = 2900
SLACK_FIELD = 1900
SLACK_FIELDS = 10


def sign(message: Message) -> str:
    """One character that says how bad it is."""
    return {"recovered": "🟢", "over": "⚪"}.get(message.kind) or _SIGNS.get(message.level, "⚪")


def plain_text(message: Message) -> str:
    """The whole message for people who read text."""
    parts = [heading(message) + ("" if heading(message)[-1:] in ".!?…" else ".")]
    if message.detail:
        parts.append("\n".join(lines_of(message.detail)))
    known = facts(message)
    if known:
        width = max(len(name) for name, _ in known) + 2
        parts.append("\n".join(f"{name + ':':<{width}}{value}" for name, value in known))
    if message.command:
        parts.append("\n".join(["Run:", *(f"    {line}" for line in lines_of(message.command))]))
    parts.append(f"-- \n{signature(message)} · {one_line(message.event)} · {moment(message.created_ms)}")
    return "\n\n".join(parts) + "\n"


def short_text(message: Message) -> str:
    """The message on one line."""
    return f"{sign(message)} {heading(message)} — {signature(message)}"


def slack_payload(message: Message) -> dict[str, Any]:
    """The body of a POST to a Slack webhook: blocks, and the line that notifications show."""
    first = f"{sign(message)} *{_slack(heading(message))}*"
    detail = "\n".join(lines_of(message.detail)).strip()
    if detail and message.kind != "failure":
        first += "\n" + _slack(detail)
    blocks: list[dict[str, Any]] = [_section(cut(first, SLACK_TEXT))]
    if detail and message.kind == "failure":
        blocks.append(_section(_code(detail)))
    known = [_markdown(_slack_fact(name, value, message)) for name, value in facts(message)[:SLACK_FIELDS]]
    if known:
        blocks.append({"type": "section", "fields": known})
    if message.command:
        blocks.append(_section(_code(message.command)))
    blocks.append({"type": "context", "elements": [_markdown(_slack(f"{signature(message)} · {message.event}"))]})
    return {"text": _slack(short_text(message)), "blocks": blocks}


def slack_fallback(message: Message) -> dict[str, Any]:
    """The same without blocks, for receivers that refuse those."""
    return {"text": cut(_slack(plain_text(message)), SLACK_TEXT)}


def json_payload(message: Message) -> dict[str, Any]:
    """The body of a POST to a webhook."""
    lasted = (message.created_ms - message.since_ms) / 1000 if message.kind in ENDS else None
    return {
        "id": f"{message.instance}-{message.created_ms}-{message.id}",
        "instance": message.instance,
        "host": message.host,
        "kind": message.kind,
        "level": message.level,
        "event": message.event,
        "cause": message.cause,
        "subject": message.subject,
        "detail": message.detail,
        "command": message.command,
        "fields": dict(message.fields),
        "count": message.count,
        "since_ms": message.since_ms,
        "created_ms": message.created_ms,
        "lasted": duration(lasted) if lasted is not None else None,
        "text": plain_text(message),
    }


def _slack_fact(name: str, value: str, message: Message) -> str:
    shown = _slack(cut(value, SLACK_FIELD))
    if name == "Since":
        # Slack shows the reader's own time zone.
        shown = f"<!date^{message.since_ms // 1000}^{{date_short_pretty}} {{time}}|{shown}>"
    return f"*{_slack(name)}*\n{shown}"


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _markdown(text)}


def _markdown(text: str) -> dict[str, Any]:
    # verbatim: Slack makes no links, mentions or channel names out of our words.
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def _code(text: str) -> str:
    kept = "\n".join(lines_of(text)).replace("```", "'''")
    shown = _slack(kept)
    while len(shown) > SLACK_TEXT:  # of a journal the end matters most
        kept = kept[len(kept) - max(1, int(len(kept) * 0.9)) + 1 :]
        shown = _slack(kept)
    return f"```\n{shown}\n```"


def _slack(text: str) -> str:
    """Without these three, <!channel> and <@user> do not exist."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
