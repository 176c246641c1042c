"""The exceptions of the application, sorted by what to do next.

    EventferryError
    ├── ConfigError            a person mends the configuration; exit 78
    ├── LedgerError            a person looks at the ledger; exit 78, never re-created silently
    │   ├── LedgerBusyError    another daemon holds it; exit 75
    │   └── LedgerBrokenError  a commit could not be made durable: begin anew from what is on the disk; exit 74
    ├── StoreError             later: the store may answer again
    │   ├── ObjectGone         the object (version) is no longer there
    │   └── ObjectChanged      the key now holds other bytes than the version asked for
    │       └── ObjectReplaced ... and they are those of a later version that is known
    ├── UnreadableObject       never: quarantine it with its reason
    └── UsageError             the command cannot be carried out as given; exit 2

Errors of sinks live in eventferry.sink.errors: they are part of the public contract.
"""


class EventferryError(Exception):
    """Root of everything eventferry raises on purpose; its text is meant for the operator."""

    exit_code = 1


class UsageError(EventferryError):
    """The command cannot be carried out as given."""

    exit_code = 2


class ConfigError(EventferryError):
    """The configuration is wrong. `problems` holds one sentence per mistake."""

    exit_code = 78

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class LedgerError(EventferryError):
    """The ledger cannot be used as it is."""

    exit_code = 78


class LedgerBusyError(LedgerError):
    """Another daemon holds the ledger."""

    exit_code = 75


class LedgerBrokenError(LedgerError):
    """A commit could not be made durable: what this process believes of the ledger may not be on the disk."""

    exit_code = 74


class StoreError(EventferryError):
    """The store did not answer as it should; the same call may succeed later."""


class ObjectGone(StoreError):
    """The object, or the version asked for, is no longer in the store."""


class ObjectChanged(StoreError):
    """The key now holds another version than the one asked for."""


class ObjectReplaced(ObjectChanged):
    """The key was seen to hold the other content of a later version."""


class UnreadableObject(EventferryError):
    """The object cannot be read to its verified end: truncated, corrupt, a bomb.

    `offset` is the byte of the decompressed stream up to which reading went well.
    """

    def __init__(self, reason: str, offset: int = 0) -> None:
        self.reason = reason
        self.offset = offset
        super().__init__(reason)
