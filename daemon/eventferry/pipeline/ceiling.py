"""Remembers how large a body a sink took and refused, so that not every batch has to be halved."""

# So many batches of about the largest size must be taken before a larger one is tried: one refusal in a hundred.
TAKEN_BEFORE_RAISE = 100


class Ceiling:
    """The largest body to cut for one sink: below what it refused, and slowly raised, as the refusal may be over."""

    def __init__(self, configured: int) -> None:
        self._configured = configured
        self._most = configured
        self._largest_taken = 0  # since the last refusal
        self._taken = 0  # of about the largest size, since the last change

    @property
    def bytes(self) -> int:
        """The largest body, unless a single event is larger."""
        return self._most

    def note_refused(self, size: int) -> None:
        """A body of several events was too large."""
        known = self._largest_taken
        # Never up: what was refused may have been cut before less was learned.
        self._most = min(self._most, known if size // 2 < known < size else max(1, size // 2))
        self._largest_taken = self._taken = 0

    def note_taken(self, size: int) -> None:
        """A body was taken."""
        if self._most >= self._configured:
            return
        self._largest_taken = max(self._largest_taken, size)
        self._taken += 2 * size > self._most  # a small one says nothing
        if self._taken >= TAKEN_BEFORE_RAISE:
            self._most = min(self._configured, self._most + self._most // 8 + 1)
            self._taken = 0
