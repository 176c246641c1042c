"""Turns log events into lines: JSON for the journal, colours on a terminal, always one redacted record a line.

    log = get_logger()
    log.info("batch.delivered", sink="warehouse", events=1200)

Events are `noun.participle`, values are fields; no payloads, no secrets. error: a person, now. warning: heals itself.
"""

import json
import logging
import math
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

from eventferry import clock
from eventferry.log_stream import LogStream

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

Format = Literal["auto", "json", "console"]

# journald cuts records at 48 KiB; a cut JSON line is no JSON.
LINE_LIMIT = 32 * 1024
VALUE_LIMIT = 8 * 1024
SHORT_LIMIT = 500

_PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
# C0, C1, line separators, directions and lone surrogates: all that could forge a line or hide its text.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_redactor: Callable[[str], str] | None = None
_stream: LogStream | None = None


class _Logger:
    """Becomes a logger of structlog when it is used: `--help` shall not pay for that import (a quarter second)."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked by copy, pickle and inspect, not by a log call
            raise AttributeError(name)
        import structlog

        return getattr(structlog.get_logger(**self._fields), name)


def get_logger(**fields: Any) -> "FilteringBoundLogger":
    """A logger that carries `fields` in every event; it follows later changes of the set-up."""
    return cast("FilteringBoundLogger", _Logger(fields))


def set_redactor(redactor: Callable[[str], str] | None) -> None:
    """From now on every text passes through `redactor` before it leaves the process."""
    global _redactor
    _redactor = redactor


def redact(text: str) -> str:
    """`text` without known secrets; what cannot be checked is withheld."""
    if _redactor is None:
        return text
    try:
        return _redactor(text)
    except Exception:  # the redactor is the last thing that may let a secret through
        return "(withheld: redaction failed)"


def escape(text: str) -> str:
    """`text` on one line: control characters, line separators and direction marks are shown, not obeyed."""
    return _UNPRINTABLE.sub(_escape_one, text)


def _escape_one(match: re.Match[str]) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(match[0])
    code = ord(match[0])
    return short or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def configure_logs(format: Format = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Set logging up for the whole process; may be called again, by a reload.

    `auto` is colours on a terminal and JSON elsewhere. Lines carry the syslog priority (`<3>`) where the stream is the
    journal, so that `journalctl -p err` works. Libraries are heard from WARNING on.
    """
    import structlog

    global _stream
    _stream = LogStream(stream or sys.stderr)
    renderer = _renderer(format, _stream)
    threshold = logging.getLevelNamesMapping()[level.upper()]
    finish: list[Processor] = [_stamp, structlog.processors.format_exc_info, _make_plain, renderer]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, *finish],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_: _stream,
        cache_logger_on_first_use=False,  # a reload may change level and format
    )
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _LibraryHandler)]:
        root.removeHandler(old)
    root.addHandler(_LibraryHandler(finish, _stream))
    root.setLevel(logging.WARNING)


def dropped_lines() -> int:
    """How many lines were lost because nobody took them (closed, full or stalled standard error)."""
    return 0 if _stream is None else _stream.dropped


class _LibraryHandler(logging.Handler):
    """Sends what libraries log through the same processors, as the event `library.logged`."""

    def __init__(self, processors: "Sequence[Processor]", stream: LogStream) -> None:
        super().__init__(logging.WARNING)
        self._processors = processors
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields: Any = {"event": "library.logged", "level": record.levelname.lower(), "library": record.name}
            fields["message"] = record.getMessage()
            if record.exc_info:
                fields["exc_info"] = record.exc_info
            for process in self._processors:
                fields = process(None, "", fields)
            self._stream.msg(fields)
        except Exception:  # a broken log call in a library must not break its caller
            self._stream.dropped += 1


def _stamp(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    fields["timestamp"] = clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return fields


def _make_plain(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Only what JSON knows, redacted, in bounded length."""
    return {str(key): _plain(value, VALUE_LIMIT) for key, value in fields.items()}


def _plain(value: Any, limit: int, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, Mapping) and depth < 3:
        return {redact(str(key)): _plain(one, limit, depth + 1) for key, one in list(value.items())[:50]}
    if isinstance(value, list | tuple | set | frozenset) and depth < 3:
        return [_plain(one, limit, depth + 1) for one in list(value)[:50]]
    try:
        text = str(value)
    except Exception:
        text = f"({type(value).__name__} that cannot be shown)"
    return _shorten(redact(text), limit)  # in this order: half a secret is not recognised


def _shorten(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    # A traceback says the most at its end.
    return f"{text[: limit // 4]} …({len(text)} characters)… {text[-limit // 2 :]}"


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _each_text(one, change) for key, one in value.items()}
    if isinstance(value, list):
        return [_each_text(one, change) for one in value]
    return value


def _renderer(format: Format, stream: LogStream) -> "Processor":
    as_json = format == "json" or (format == "auto" and not stream.is_terminal)
    render: Processor = _render_json if as_json else _Console(colours=stream.is_terminal)

    def finish(logger: Any, method: str, fields: MutableMapping[str, Any]) -> str:
        priority = f"<{_PRIORITIES.get(str(fields.get('level')), 6)}>" if stream.is_journal else ""
        return priority + str(render(logger, method, fields))

    return finish


def _render_json(_logger: Any, _method: str, fields: MutableMapping[str, Any]) -> str:
    first = {key: fields.pop(key) for key in ("timestamp", "level", "event") if key in fields}
    line = _dump(first | dict(fields))
    if len(line) > LINE_LIMIT:
        short = {key: _plain(value, SHORT_LIMIT) for key, value in list(fields.items())[:30]}
        line = _dump(first | short)
    return line if len(line) <= LINE_LIMIT else _dump(first | {"cut": True})


def _dump(fields: dict[str, Any]) -> str:
    text = json.dumps(fields, ensure_ascii=False, default=str)
    # json.dumps leaves DEL, C1, U+2028 and direction marks as they are.
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class _Console:
    """Renders for people; a traceback is indented on a terminal and folded into its line elsewhere."""

    def __init__(self, *, colours: bool) -> None:
        import structlog

        self._fold = not colours
        self._render = structlog.dev.ConsoleRenderer(
            colors=colours, pad_event_to=24, sort_keys=False, exception_formatter=structlog.dev.plain_traceback
        )

    def __call__(self, logger: Any, method: str, fields: MutableMapping[str, Any]) -> str:
        traceback = fields.pop("exception", None)
        shown = {escape(key): _each_text(value, escape) for key, value in fields.items()}
        if traceback and self._fold:
            shown["exception"] = escape(str(traceback).strip().rpartition("\n")[2])
        line = str(self._render_line(logger, method, shown))
        if traceback and not self._fold:
            line += "".join(f"\n    {escape(one)}" for one in str(traceback).splitlines())
        return line

    def _render_line(self, logger: Any, method: str, shown: dict[str, Any]) -> object:
        folded = shown.pop("exception", None)
        return self._render(logger, method, shown | ({"error": folded} if folded else {}))
