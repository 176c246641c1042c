"""What the numbers of MySQL's and MariaDB's errors mean for a batch."""

import re

from eventferry.sink import BatchRejected, BatchTooLarge, SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.safe import safe_text

_LOG = "see the server's error log"
_SHUTTING_DOWN = "the server is shutting down"
_MEMORY = "the server is out of memory"
_SPACE = "free some space there"

# Heals without eventferry's operator touching the sink: locks, load, restarts, full disks, fail-overs.
LATER = {
    1021: _SPACE,
    1030: _LOG,  # the storage engine failed, mostly because its disk is full
    1037: _MEMORY,
    1038: _MEMORY,
    1040: "raise max_connections, or lower the sink's concurrency",
    1041: _MEMORY,
    1047: "this node of the cluster is not ready",
    1053: _SHUTTING_DOWN,
    1060: "another sink added the column in the same moment",
    1061: "another sink added the key in the same moment",
    1077: _SHUTTING_DOWN,
    1079: _SHUTTING_DOWN,
    1105: _LOG,
    1114: _SPACE,  # "the table is full": with InnoDB its disk is
    1180: _LOG,  # error during COMMIT
    1181: _LOG,
    1184: "the server broke the connection",
    1203: "raise max_user_connections, or lower the sink's concurrency",
    1205: "another session held a lock for too long",
    1213: "deadlock with another session",
    1226: "raise the limits of this user",
    1290: "a replica, or a server in a restricted mode, takes nothing; name the one that is written to",
    1317: "somebody ended the statement",
    1836: "a server in read-only mode takes nothing; name the one that is written to",
    1927: "somebody ended the connection",
    1969: "raise max_statement_time",
    3024: "raise max_execution_time",
    3168: "the server is not ready",
    4031: "the server closed an idle connection",
}

_LOGIN = "check `user` and `password`"
_RIGHTS = "run: {grant}"
_TABLE = "the table is not what eventferry expects; see its README"
_OLD = "this server is not supported; expected MySQL 8.0.17 or MariaDB 10.5, or newer"

# A person has to act at the server or in the configuration.
HELD = {
    1044: _RIGHTS,
    1045: _LOGIN,
    1049: "create the database, or check `database`",
    1054: _TABLE,
    1064: _OLD,
    1101: _TABLE,
    1115: _OLD,
    1117: "the table would have too many columns; configure fewer",
    1118: "the table would have too many columns; configure fewer",
    1129: "run there: mysqladmin flush-hosts",
    1130: "allow this host to the user there",
    1136: _TABLE,
    1142: _RIGHTS,
    1143: _RIGHTS,
    1146: "create the table, or set create = true",
    1193: _OLD,
    1227: _RIGHTS,
    1231: _OLD,
    1251: "let the user log in with mysql_native_password or caching_sha2_password",
    1273: _OLD,
    1305: _TABLE,
    1364: "give that column a default",
    1370: _RIGHTS,
    1524: "let the user log in with mysql_native_password or caching_sha2_password",
    1665: "set binlog_format = ROW or MIXED there",
    1698: _LOGIN,
    1785: _TABLE,  # GTIDs and a table without transactions
    1792: "the session is read-only",
    1820: "set a new password for the user",
    1862: "set a new password for the user",
    2026: "check `tls` and `ca_file`",
    2054: "let the user log in with mysql_native_password or caching_sha2_password",
    2059: "let the user log in with mysql_native_password or caching_sha2_password",
    2061: "the way the user logs in needs an encrypted connection: set tls",
    3118: "unlock the user",
    3159: "the server wants encrypted connections: set tls",
    3750: "the server wants a primary key in every table; create the table by hand",
    4151: "unlock the user",
}

_TOO_LARGE = {
    1153: "raise max_allowed_packet",
    1197: "raise max_binlog_cache_size",
    1206: "raise innodb_buffer_pool_size",  # more locks than it has room for
    2020: "raise max_allowed_packet",
}

# Content: what the server would not store. Its own words may quote an event; these do not.
REFUSED = {
    1048: "a value is missing in a column that must have one",
    1062: "its key is there already",
    1264: "a number is out of range",
    1265: "a value does not fit",
    1292: "a value does not fit",
    1300: "a text is not valid in the column's character set",
    1366: "a value does not fit",
    1406: "a value is too long",
    1411: "a value does not fit",
    1452: "a foreign key has no counterpart",
    1526: "the table has no partition for it",
    1644: "a trigger refused it",
    1690: "a number is out of range",
    3140: "a JSON value is not taken",
    3141: "a JSON value is not taken",
    3144: "a JSON value is not taken",
    3156: "a JSON value is not taken",
    3157: "a JSON value is nested too deeply",
    3158: "a key in a JSON value is too long",
    3819: "a CHECK of the table refused it",
    4025: "a CHECK of the table refused it",
}

LOST = {0, 1158, 1159, 1160, 1161, 2002, 2003, 2005, 2006, 2013, 2014, 2027, 2055}
DUPLICATE = 1062
_ROLLED_BACK = {1213}  # certain, even as the answer to COMMIT

_COLUMN = re.compile(r"(?:column|key|constraint) ((?:`[^`]+`\.?)+|'[^']+'|\w+)", re.I)


def meaning(number: int, said: str, *, who: str, grant: str, committing: bool) -> SinkError:
    """The error of the contract for error `number` with the server's own words.

    `committing`: COMMIT was sent, so that the events may be there. `grant` is the statement that gives what is needed.
    """
    words = f"{who}: {safe_text(said)} ({number})"
    if number in LOST:
        return _lost(words, committing=committing)
    if number in REFUSED:
        return BatchRejected(f"{who}: {REFUSED[number]}{_place(said)} ({number})")
    if number in _TOO_LARGE:
        return BatchTooLarge(f"{words}; {_TOO_LARGE[number]} there")
    if number in HELD and not committing:
        return SinkMisconfigured(f"{words}; {HELD[number].format(grant=grant)}")
    untouched = not committing or number in _ROLLED_BACK
    if number in LATER:
        return SinkUnavailable(f"{words}; {LATER[number]}", untouched=untouched)
    # Words that nobody has seen may quote an event.
    return SinkUnavailable(f"{who}: error {number}; {_LOG}", untouched=untouched)


def _lost(words: str, *, committing: bool) -> SinkUnavailable:
    if committing:
        return SinkUnavailable(f"{words}; it was told to commit, so what it took is unknown")
    return SinkUnavailable(f"{words}; nothing was committed", untouched=True)


def _place(said: str) -> str:
    """` (column 'x')`, where the server names one: at the end, after what it may quote of an event."""
    found = _COLUMN.findall(said)
    if not found:
        return ""
    name = re.sub(r"[`']", "", found[-1]).rpartition(".")[2]
    return f" (column or key {safe_text(name, 64)!r})"
