"""What the numbers of MySQL's and MariaDB's errors mean for a batch."""

import re

from eventferry.sink import BatchRejected, BatchTooLarge, SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.safe import safe_text

# Heals without anybody: locks, load, restarts, full disks, a replica that was asked while another one took over.
LATER = {
    1021: "free some space",  # disk full
    1030: "see the server's error log",  # the storage engine failed, mostly a full disk
    1037: "the server is out of memory",
    1038: "the server is out of sort memory",
    1040: "raise max_connections, or lower the sink's concurrency",
    1041: "the server is out of memory",
    1047: "a node of the cluster is not ready",
    1053: "the server is shutting down",
    1077: "the server is shutting down",
    1079: "the server is shutting down",
    1105: "see the server's error log",
    1114: "free some space",  # the table is full: with InnoDB its disk is
    1180: "see the server's error log",  # error during COMMIT
    1181: "see the server's error log",
    1184: "the server broke the connection",
    1203: "raise max_user_connections, or lower the sink's concurrency",
    1205: "another session holds a lock",
    1213: "another session holds a lock",  # deadlock: rolled back
    1226: "raise the user's limits",
    1290: "a read-only server, or one in another restricted mode",
    1317: "somebody ended the statement",
    1836: "the server is in read-only mode",
    1927: "somebody ended the connection",
    1969: "raise max_statement_time",
    3024: "raise max_execution_time",
    3168: "the server is not ready",
    4161: "the server is restarting",
}
# Needs a person.
HELD = {
    1044: "GRANT",
    1045: "check user and password",
    1048 + 10_000: "",  # placeholder, never sent
}
