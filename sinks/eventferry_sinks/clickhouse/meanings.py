"""Says what an exception of ClickHouse means for a batch: a pure table from its code to the errors of the contract."""

import re
from collections.abc import Iterable

from eventferry.sink import BatchRejected, BatchTooLarge, SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.safe import safe_text

ACCESS_DENIED = 497
NO_DATA = 108

# What a person has to mend, with the remedy.
_HELD = {
    8: "the table is not what eventferry expects",
    10: "the table is not what eventferry expects",
    16: "the table was changed: add the column, or resume the sink so that it looks at the table again",
    44: "a column that is computed by the table cannot be written; configure another name",
    47: "the table was changed: add the column, or resume the sink so that it looks at the table again",
    48: "the table's engine takes no inserts; name another table",
    50: "this server does not know a type that is configured; make the table by hand",
    60: "create the table, or set create = true",
    62: "this server does not understand the statement; is it ClickHouse, and which version?",
    73: "this server does not know the format JSONEachRow",
    81: "create the database, or configure another one",
    115: "take the setting out of `settings`",
    164: "the user must be allowed to insert and to change settings: a profile with readonly = 0",
    192: "configure `user` and `password`",
    193: "configure `user` and `password`",
    194: "configure `user` and `password`",
    195: "allow eventferry's address for the user",
    218: "create the table, or set create = true",
    291: "grant the user access to the database",
    344: "the server's configuration forbids it",
    392: "the server's configuration forbids it",
    452: "the user's profile forbids the value of a setting",
    497: "grant the user what the README of this type names",
    516: "configure `user` and `password`",
}
# What the events themselves are refused for. The texts of these quote values, so only their framework is shown.
_REFUSED = {
    6: "CANNOT_PARSE_TEXT",
    25: "CANNOT_PARSE_ESCAPE_SEQUENCE",
    26: "CANNOT_PARSE_QUOTED_STRING",
    27: "CANNOT_PARSE_INPUT_ASSERTION_FAILED",
    38: "CANNOT_PARSE_DATE",
    41: "CANNOT_PARSE_DATETIME",
    53: "TYPE_MISMATCH",
    69: "ARGUMENT_OUT_OF_BOUND",
    70: "CANNOT_CONVERT_TYPE",
    72: "CANNOT_PARSE_NUMBER",
    117: "INCORRECT_DATA",
    131: "TOO_LARGE_STRING_SIZE",
    321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
    395: "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO",
    407: "DECIMAL_OVERFLOW",
    467: "CANNOT_PARSE_BOOL",
    469: "VIOLATED_CONSTRAINT",
}
# What passes by itself; the outcome of an insert that ended so is unknown.
_LATER = {
    3: "UNEXPECTED_END_OF_FILE",
    32: "ATTEMPT_TO_READ_AFTER_EOF",
    33: "CANNOT_READ_ALL_DATA",
    159: "TIMEOUT_EXCEEDED",
    160: "TOO_SLOW",
    201: "QUOTA_EXCEEDED",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    216: "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING",
    225: "NO_ZOOKEEPER",
    236: "ABORTED",
    241: "MEMORY_LIMIT_EXCEEDED",
    242: "TABLE_IS_READ_ONLY",
    243: "NOT_ENOUGH_SPACE",
    252: "TOO_MANY_PARTS",
    279: "ALL_CONNECTION_TRIES_FAILED",
    285: "TOO_FEW_LIVE_REPLICAS",
    286: "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE",
    289: "REPLICA_IS_NOT_IN_QUORUM",
    319: "UNKNOWN_STATUS_OF_INSERT",
    394: "QUERY_WAS_CANCELLED",
    425: "SYSTEM_ERROR",
    473: "DEADLOCK_AVOIDED",
    999: "KEEPER_EXCEPTION",
}
_BEFORE_ANYTHING = (202,)  # said before the statement is looked at
_WORTH_A_PAUSE = {202: 5.0, 252: 30.0}  # seconds

_CODE = re.compile(r"Code: (\d{1,6})[.,]")
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]{3,60})\)")
_FRAME = re.compile(
    r"\(while read(?:ing)? the value of key [^\W\d]\w{0,62}\)|\(at row \d+\)|[Cc]onstraint `[^\W\d]\w{0,62}`"
    r"|is violated at row \d+"
)
_PREFIX = re.compile(r"Code: \d+[.,](?: e\.displayText\(\) =)? DB::Exception: ")


def code_in(text: str) -> int | None:
    """The code of the exception that an answer's text tells of; None where it tells of none."""
    found = _CODE.search(text)
    if found and "Exception" in text:
        return int(found[1])
    return None


def meaning(code: int, text: str, who: str, secrets: Iterable[str] = ()) -> SinkError:
    """What exception `code` with `text` means; `who` names the server.

    Texts are shown where they speak of the table, the user or the server, never where they may quote an event.
    """
    if code in _HELD:
        return SinkMisconfigured(f"{who}: {_words(text, secrets)}; {_HELD[code]}")
    if code in _REFUSED:
        return BatchRejected(f"{who}: {_framework(code, text)}")
    said = f"{who}: {_LATER.get(code) or _name(text)} (code {code})"
    if code == 252 and "single INSERT block" in text:
        return BatchTooLarge(f"{said}: the batch spans more partitions than max_partitions_per_insert_block allows")
    if code == 241 and re.search(r"\(?for query\)?|[Qq]uery memory limit", text):
        return BatchTooLarge(f"{said}: the batch needs more than max_memory_usage")
    if code == 252:
        said += ": merges are behind; larger batches make fewer parts"
    if code == 201:
        said += ": the user's quota is used up"
    return SinkUnavailable(said, retry_after=_WORTH_A_PAUSE.get(code), untouched=code in _BEFORE_ANYTHING)


def _words(text: str, secrets: Iterable[str]) -> str:
    last = _PREFIX.split(text)[-1]
    return safe_text(last.split("Stack trace")[0], 300, secrets).removesuffix(", e.what() = DB::Exception")


def _framework(code: int, text: str) -> str:
    """`CANNOT_PARSE_NUMBER (code 72) (while reading the value of key n) (at row 7)`: the words without the values."""
    # What an event holds comes after these; a part of it could look like the frame.
    head, _, _ = text.partition("Column values:")
    return " ".join([f"{_REFUSED[code]} (code {code})", *dict.fromkeys(_FRAME.findall(head))])


def _name(text: str) -> str:
    found = _NAME.search(text)
    return found[1] if found else "an exception"
