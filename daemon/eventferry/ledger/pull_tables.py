"""The tables of the pull side: keys, exports and what belongs to them, saved queries. See tables.py for the forms."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)

from eventferry.ledger.tables import Id
from eventferry.ledger.tables import metadata as metadata

# Who may ask the pull side for what. Of a key only a hash of its secret is stored.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),  # UUID; what others see of it
    Column("handle", Text, nullable=False, unique=True),  # the part of the token by which it is found
    Column("secret_hash", Text, nullable=False),  # SHA-256, hex: the secret is random, 256 bits
    Column("name", Text, nullable=False),  # what it is for
    Column("owner", Text, nullable=False),  # who uses it; the user name where a dialect wants one
    Column("scopes", Text, nullable=False),  # JSON: of events, exports, admin
    Column("realm", Text, nullable=False),  # JSON: query.scope.Scope.to_data
    Column("filter", Text),  # JSON: expression.as_data; ANDed to all that it asks
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("revoked_ms", BigInteger),
    Column("used_ms", BigInteger),  # about: written at most once a minute
)

# queued → running → complete → expired | failed | cancelled; what is deleted keeps its row until the ledger forgets it.
exports = Table(
    "exports",
    metadata,
    Column("seq", Id, primary_key=True),
    Column("id", Text, nullable=False, unique=True),  # UUID
    Column("key_id", Text, index=True),  # of api_keys; None: made by a schedule
    Column("key_filter", Text),  # the key's filter when it was made; JSON
    Column("scope", Text, nullable=False),  # JSON: Scope.to_data; whose it is: keys that cover it see it
    Column("dialect", Text, nullable=False),  # native | console | schedule | altis | gooee | connect | keen | ombori
    Column("name", Text, nullable=False, default=""),
    Column("notes", Text, nullable=False, default=""),
    Column("tags", Text, nullable=False, default="[]"),  # JSON
    Column("details", Text, nullable=False, default="{}"),  # JSON: what its dialect has to show again
    Column("asked", Text, nullable=False),  # JSON: filter, timeframe and timezone as they were written
    Column("selection", Text, nullable=False),  # JSON: exports.model.Selection.to_data, the key's limits included
    Column("output", Text, nullable=False),  # JSON: exports.model.Output.to_data
    Column("destination", Text, nullable=False),  # JSON: {"kind": "managed"} or {"kind": "s3", "url", "endpoint", …}
    Column("credentials", LargeBinary),  # of the requester's store, encrypted; None once it has ended
    Column("notify", Text, nullable=False),  # JSON: {"email": […], "webhook": …}
    Column("as_of", BigInteger, nullable=False),  # the log's head when it was made: later positions are not read
    Column("state", Text, nullable=False),
    Column("reason", Text),  # why it failed, or, while it is queued, why it waits
    Column("attempts", Integer, nullable=False, default=0),  # times that its worker was started
    Column("kills", Integer, nullable=False, default=0),  # times that its worker died
    Column("interruptions", Integer, nullable=False, default=0),  # times that the daemon died while it ran
    Column("next_ms", BigInteger, nullable=False, default=0),  # not before
    Column("troubled_ms", BigInteger),  # since when its store does not answer
    Column("cancelled", Boolean, nullable=False, default=False),  # asked for; the worker obeys
    Column("percent", Integer, nullable=False, default=0),  # of what is to be read; only grows
    Column("events", BigInteger, nullable=False, default=0),  # written so far, in the end all
    Column("bytes", BigInteger, nullable=False, default=0),  # of the files
    Column("files", Integer, nullable=False, default=0),
    Column("created_ms", BigInteger, nullable=False),
    Column("modified_ms", BigInteger, nullable=False),
    Column("started_ms", BigInteger),
    Column("finished_ms", BigInteger),
    Column("expires_ms", BigInteger),  # when its files go; set when it completes
    Column("deleted_ms", BigInteger),
    Column("place", Text),  # of its files: s3://bucket/prefix, while objects may lie there; None: the folder of exports
    Column("idempotency_key", Text),
    Column("request_digest", Text),  # of what came with that key
    Column("schedule", Text),
    UniqueConstraint("key_id", "idempotency_key"),
    Index("ix_exports_state", "state", "seq"),
    Index("ix_exports_scope", "scope", "key_filter", "seq"),
)

export_files = Table(
    "export_files",
    metadata,
    Column("export_id", ForeignKey("exports.id"), primary_key=True),
    Column("name", Text, primary_key=True),  # of the file in the export's folder
    Column("number", Integer, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
)

# What is to be told of an ended export: pending → sent | failed.
export_notices = Table(
    "export_notices",
    metadata,
    Column("id", Id, primary_key=True),
    Column("export_id", ForeignKey("exports.id"), nullable=False, index=True),
    Column("kind", Text, nullable=False),  # email | webhook
    Column("address", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_ms", BigInteger, nullable=False, default=0),
    Column("error", Text),
    Index("ix_export_notices_state", "state", "next_ms"),
)

# When each schedule of the configuration last fired.
export_schedules = Table(
    "export_schedules",
    metadata,
    Column("name", Text, primary_key=True),
    Column("rhythm", Text, nullable=False),  # cron and time zone: another rhythm begins anew
    Column("fired_ms", BigInteger, nullable=False),  # the planned time
)

saved_queries = Table(
    "saved_queries",
    metadata,
    Column("seq", Id, primary_key=True),
    Column("id", Text, nullable=False, unique=True),  # UUID
    Column("key_id", Text, nullable=False),
    Column("key_filter", Text),
    Column("scope", Text, nullable=False),  # JSON: Scope.to_data; whose it is: keys that cover it see it
    Column("name", Text, nullable=False),
    Column("notes", Text, nullable=False, default=""),
    Column("tags", Text, nullable=False, default="[]"),
    Column("query", Text, nullable=False),  # JSON as written: filter, timeframe, timezone, fields
    Column("created_ms", BigInteger, nullable=False),
    Column("modified_ms", BigInteger, nullable=False),
)
