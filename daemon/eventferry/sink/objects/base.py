"""What every object store can do for a sink: small verbs with one deadline and the contract's errors."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from eventferry.sink.timing import Deadline


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as the store knows it."""

    size: int  # bytes
    etag: str  # changes with the content; "" where the store has none


class Bucket(ABC):
    """The objects below a prefix of a store; keys are relative to it. Used by one thread at a time.

    Made without I/O. Every call ends within the time of `begin`, is made once (no retries), and raises SinkErrors:
    SinkUnavailable with `untouched` where the call cannot have taken effect, SinkMisconfigured with the remedy,
    BatchTooLarge for an object that the store finds too large.
    """

    root: str  # names the place in messages: s3://bucket/prefix
    identity: str  # as whom: "as AKIA…", "as the machine's own role"
    conditional: bool  # whether the store is known to honour conditions, so that `put_new` need not look first

    def __init__(self) -> None:
        self.deadline = Deadline()

    def begin(self, seconds: float) -> None:
        """Give all calls from now on this time together."""
        self.deadline = Deadline(seconds)

    @abstractmethod
    def put(self, key: str, body: bytes) -> None:
        """Write an object, or replace it. Returning means that the store holds it durably."""

    def put_new(self, key: str, body: bytes) -> bool:
        """Write an object unless there is one; False where there was.

        Where the store ignores conditions two writers within milliseconds of each other may both get True.
        """
        if not self.conditional and self.head(key) is not None:
            return False
        return self.put_if_absent(key, body)

    @abstractmethod
    def put_if_absent(self, key: str, body: bytes) -> bool:
        """`put` under the condition that no object is there; False where the store says that there is one."""

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """A small object, whole; None where there is none."""

    @abstractmethod
    def head(self, key: str) -> Stored | None:
        """What is stored at `key`; None where nothing is."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; what is not there is fine."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`, in order."""

    @abstractmethod
    def make(self) -> bool:
        """Create the bucket, container or last folder unless it is there; whether it was created."""

    @abstractmethod
    def prove(self) -> None:
        """Show that the bucket is there and lets us in."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections; twice is harmless."""
