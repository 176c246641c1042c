"""The tables of the ledger: everything eventferry remembers. States are words, checked by the modules that write them.

Times are epoch ms (…_ms), digests xxh3-128 (32 hex digits). No table holds an event's bytes except `dead_letters`.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

Id = BigInteger().with_variant(Integer, "sqlite")  # which numbers rows by itself only for INTEGER

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Facts about the daemon itself: what is loaded, since when, when it was last seen moving.
meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),  # JSON
)

sources = Table(
    "sources",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("identity", Text, nullable=False),  # its first name: what batch ids are made of
    Column("root", Text, nullable=False),  # where the store is; a change must be explicit
    Column("floor_ms", BigInteger, nullable=False),  # objects dated before it are not taken (start, retention)
    Column("created_ms", BigInteger, nullable=False),
    Column("relisted_ms", BigInteger),  # when the whole store was last listed
    Column("foreign_keys", Integer, nullable=False, default=0),  # keys in the last full list that match no pattern
)

# The listing cursor of each date-ordered partition of a source; only a hint: membership is decided by `objects`.
partitions = Table(
    "partitions",
    metadata,
    Column("source_id", ForeignKey("sources.id"), primary_key=True),
    Column("partition", Text, primary_key=True),
    Column("dated_ms", BigInteger, nullable=False),  # date of the newest key taken
    Column("key", Text, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Id, primary_key=True),
    Column("source_id", ForeignKey("sources.id"), nullable=False, index=True),
    Column("kind", Text, nullable=False),  # poll | relist
    Column("started_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger),
    Column("listed", Integer, nullable=False, default=0),
    Column("found", Integer, nullable=False, default=0),  # new objects taken
    Column("indexed", Integer, nullable=False, default=0),
    Column("quarantined", Integer, nullable=False, default=0),
    Column("events", BigInteger, nullable=False, default=0),
    Column("bytes", BigInteger, nullable=False, default=0),
    Column("bad", BigInteger, nullable=False, default=0),
    Column("limited", Boolean, nullable=False, default=False),  # max_files was reached with more waiting
    Column("error", Text),
)

# seen → indexed | unchanged | quarantined | held | gone; quarantined and held wait for a person.
objects = Table(
    "objects",
    metadata,
    Column("id", Id, primary_key=True),
    Column("source_id", ForeignKey("sources.id"), nullable=False),
    Column("key", Text, nullable=False),
    Column("key_hash", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("modified_ms", BigInteger, nullable=False),
    Column("dated_ms", BigInteger),  # the date in the key, where the pattern knows one
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_ms", BigInteger, nullable=False, default=0),
    Column("seen_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger),
    Column("digest", Text),  # of the whole decompressed content
    Column("bytes", BigInteger),  # decompressed, whole content
    Column("base", BigInteger, nullable=False, default=0),  # bytes already indexed under an earlier version
    # The books of what this version added: lines = events + bad + blank.
    Column("lines", BigInteger),
    Column("events", BigInteger),
    Column("bad", BigInteger),
    Column("blank", BigInteger),
    Column("untimed", BigInteger),
    UniqueConstraint("source_id", "key_hash", "version"),
    Index("ix_objects_state", "source_id", "state", "next_ms"),
)

# The log. `position` is global and gapless: assigned inside the transaction that appends.
segments = Table(
    "segments",
    metadata,
    Column("position", Id, primary_key=True, autoincrement=False),
    Column("source_id", ForeignKey("sources.id"), nullable=False),
    Column("object_id", ForeignKey("objects.id"), nullable=False, index=True),
    Column("start", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False),
    Column("first_line", BigInteger, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("events", Integer, nullable=False),
    Column("untimed", Integer, nullable=False),
    Column("time_min", BigInteger),
    Column("time_max", BigInteger),
    Column("digest", Text, nullable=False),
    Column("flags", Integer, nullable=False),
    Column("holes", LargeBinary),  # pairs of int64, little-endian
    Column("appended_ms", BigInteger, nullable=False),
    Index("ix_segments_source_position", "source_id", "position"),
)

bad_lines = Table(
    "bad_lines",
    metadata,
    Column("object_id", ForeignKey("objects.id"), primary_key=True),
    Column("line", BigInteger, primary_key=True),
    Column("offset", BigInteger, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
)

# active | held (a person must mend something) | paused (a person asked for it) | gone (no longer configured)
sinks = Table(
    "sinks",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("identity", Text, nullable=False),  # its first name: what batch ids are made of, so that a rename keeps them
    Column("type", Text, nullable=False),
    Column("epoch", Integer, nullable=False, default=1),  # part of every batch id; a new one duplicates on purpose
    Column("state", Text, nullable=False),
    Column("enabled", Boolean, nullable=False, default=True),
    Column("reason", Text),
    Column("since_ms", BigInteger),
    Column("probe_ms", BigInteger),  # when a held sink is tried next
    Column("failures", Integer, nullable=False, default=0),  # in a row
    Column("failing_since_ms", BigInteger),
    Column("transform", Text, nullable=False, default=""),
    Column("created_ms", BigInteger, nullable=False),
    Column("claim", Integer, nullable=False, default=0),  # of the one worker that may plan and begin attempts
    Column("guarantee", Text),  # as its last opened instance said; what its type declares, or less
    Column("delivered_ms", BigInteger),
    # Batches taken, ever: proof that refusals are about content.
    Column("accepted", BigInteger, nullable=False, default=0),
    Column("disabled_ms", BigInteger),
    Column("pinned_ms", BigInteger, nullable=False, default=0),  # how long a disabled sink keeps what it lacks
)

# A sink's place in a source's part of the log: all up to (position, byte) is planned.
cursors = Table(
    "cursors",
    metadata,
    Column("sink_id", ForeignKey("sinks.id"), primary_key=True),
    Column("source_id", ForeignKey("sources.id"), primary_key=True),
    Column("start_position", BigInteger, nullable=False),  # not owed: everything up to it
    Column("position", BigInteger, nullable=False),
    Column("byte", BigInteger, nullable=False),
    Column("left_events", Integer, nullable=False, default=0),  # of the segment at `position`, not planned yet
    Column("pruned_events", BigInteger, nullable=False, default=0),  # after `start_position`, their batch is pruned
    Column("start_ms", BigInteger),  # while set, nothing was planned yet: objects before it are not owed
    Column("start_by_age", Boolean, nullable=False, default=False),  # compares the object's age, not its key's date
)

# planned → sending → delivered | waiting → … | split | dead | filtered | missing;
# `suspect` is refused, but nobody believes it yet.
batches = Table(
    "batches",
    metadata,
    Column("seq", Id, primary_key=True),
    Column("id", Text, nullable=False),
    Column("sink_id", ForeignKey("sinks.id"), nullable=False),
    Column("source_id", ForeignKey("sources.id"), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("replay_id", Integer),  # set where the batch belongs to a replay, not to the cursor
    Column("replaces", Text),  # JSON: ids whose events it supersedes; set in replays that replace
    Column("parent_seq", BigInteger),
    Column("root_seq", BigInteger),
    Column("from_position", BigInteger, nullable=False),
    Column("from_byte", BigInteger, nullable=False),
    Column("to_position", BigInteger, nullable=False),
    Column("to_byte", BigInteger, nullable=False),
    Column("order_position", BigInteger, nullable=False),  # sending order: position …
    Column("order_byte", BigInteger, nullable=False),  # … and byte where it starts
    Column("parts", Text, nullable=False),  # JSON: [[object_id, start, end, events], …]
    Column("read_events", Integer, nullable=False),  # events of the interval
    Column("events", Integer, nullable=False),  # of which sent
    Column("dead_events", Integer, nullable=False, default=0),
    Column("body_bytes", BigInteger, nullable=False),
    Column("body_digest", Text, nullable=False),
    Column("transform", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("unknown", Boolean, nullable=False, default=False),  # an attempt may have taken effect
    Column("repeatable", Boolean, nullable=False, default=False),  # split after an unknown attempt: may repeat events
    Column("refused_at", BigInteger),  # the sink's `accepted` when the root was first refused
    Column("bugs", Integer, nullable=False, default=0),  # unknown exceptions in a row
    Column("next_ms", BigInteger, nullable=False, default=0),
    Column("error", Text),
    Column("created_ms", BigInteger, nullable=False),
    Column("sent_ms", BigInteger),
    Column("finished_ms", BigInteger),
    UniqueConstraint("sink_id", "id"),
    Index("ix_batches_open", "sink_id", "state", "source_id"),
    Index("ix_batches_place", "source_id", "from_position"),
)

# The transforms that batches were cut under, so that a retry repeats the same bytes after the config has changed.
transforms = Table(
    "transforms",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("definition", Text, nullable=False),  # JSON
)

# waiting → retrying → delivered | dropped
dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", Id, primary_key=True),
    Column("sink_id", ForeignKey("sinks.id"), nullable=False),
    Column("source_id", ForeignKey("sources.id"), nullable=False),
    Column("object_id", BigInteger),
    Column("batch_seq", BigInteger),
    Column("kind", Text, nullable=False),  # refused | too_large | source_gone
    Column("place", Text, nullable=False),  # key:line
    Column("start", BigInteger),
    Column("end", BigInteger),
    Column("events", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("body", LargeBinary),  # as it would have been sent; None where the source is gone
    Column("bytes", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_ms", BigInteger, nullable=False, default=0),
    Column("created_ms", BigInteger, nullable=False),
    Index("ix_dead_letters_sink_state", "sink_id", "state"),
)

# What people ask of the daemon from the command line; it picks them up within 2 s.
requests = Table(
    "requests",
    metadata,
    Column("id", Id, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("args", Text, nullable=False),  # JSON
    Column("created_ms", BigInteger, nullable=False),
    Column("done_ms", BigInteger),
    Column("ok", Boolean),
    Column("result", Text),
)

# What is wrong now, one row per cause; resolved rows keep the last time.
conditions = Table(
    "conditions",
    metadata,
    Column("cause", Text, primary_key=True),  # e.g. sink.held:warehouse
    Column("level", Text, nullable=False),  # warning | error
    Column("event", Text, nullable=False),  # e.g. sink.held
    Column("subject", Text, nullable=False),  # one sentence for people
    Column("detail", Text, nullable=False),
    Column("command", Text, nullable=False),  # what to run now
    Column("fields", Text, nullable=False),  # JSON
    Column("count", Integer, nullable=False),
    Column("opened_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Column("messaged_ms", BigInteger),  # when a message was last written for it
    Column("repeat_ms", BigInteger),  # its own interval between reminders; 0 means none
    Column("resolved_ms", BigInteger, index=True),
)

# The outbox: messages to people, written in the transaction that changed the state, then sent.
messages = Table(
    "messages",
    metadata,
    Column("id", Id, primary_key=True),
    Column("cause", Text, nullable=False),
    Column("kind", Text, nullable=False),  # problem | reminder | recovered | over | notice | digest | test
    Column("level", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("payload", Text, nullable=False),  # JSON: subject, detail, command, fields, since_ms, count
    Column("created_ms", BigInteger, nullable=False),
    Column("routed", Boolean, nullable=False, default=False),
    Index("ix_messages_cause", "cause", "id"),
)

sends = Table(
    "sends",
    metadata,
    Column("message_id", ForeignKey("messages.id"), primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("state", Text, nullable=False),  # pending | sent | failed | suppressed | dropped
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_ms", BigInteger, nullable=False, default=0),
    Column("error", Text),
    Column("refused", Boolean, nullable=False, default=False),  # for its own sake; the channel itself works
    Column("sent_ms", BigInteger),
    Index("ix_sends_state", "state", "next_ms"),
)
