"""Says what the server's answers mean for a batch: of the whole request, and of each event in it."""

import msgspec

from eventferry.sink import EventsRejected, SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.safe import safe_text

_FOR_A_PERSON = {
    "index_not_found_exception": "create it, or set create = true",
    "security_exception": "grant the user `create_doc` on the index, and `auto_configure` where it is to be made",
    "invalid_index_name_exception": "configure another name",
    "index_closed_exception": "open the index",
    "cluster_block_exception": "remove the block of the index",
}
# Of these no event is the cause, although the server says illegal argument.
_NOT_THE_EVENT = (
    ("pipeline with id", "create the pipeline, or take `pipeline` away"),
    ("data stream", "set data_stream = true for a data stream"),
    ("no write index", "give the alias an index to write to"),
    ("this action would add", "the cluster takes no further index: raise cluster.max_shards_per_node, or drop some"),
)


class Complaint(msgspec.Struct):
    """What the server says about a request or an item."""

    type: str = ""
    reason: str | None = None

    def words(self, secrets: tuple[str, ...] = ()) -> str:
        """Its words, without the value that some servers quote."""
        reason = (self.reason or "").partition(". Preview of field's value")[0]
        return safe_text(f"{self.type}: {reason}" if reason else self.type, 200, secrets)


class Item(msgspec.Struct):
    """What became of one event."""

    status: int
    error: Complaint | str | None = None


class BulkAnswer(msgspec.Struct):
    """What became of a batch: an item for each event, in order."""

    items: list[dict[str, Item]]
    errors: bool = False


class _Failure(msgspec.Struct):
    error: Complaint | str


def complaint_of(body: bytes) -> Complaint | None:
    """What the server says where it refuses a request as a whole."""
    try:
        error = msgspec.json.decode(body, type=_Failure).error
    except msgspec.MsgspecError:
        return None
    return error if isinstance(error, Complaint) else Complaint(reason=error)


def judge_items(items: list[dict[str, Item]], who: str, *, creates: bool) -> SinkError | None:
    """The error that stands for all items; None where every event is in the index.

    `creates`: an id that is there already means that an earlier attempt took that event.
    """
    refused: dict[int, str] = {}
    later: Complaint | None = None
    for position, each in enumerate(items):
        item = next(iter(each.values()))
        if item.status < 300 or (item.status == 409 and creates):
            continue
        error = item.error if isinstance(item.error, Complaint) else Complaint(f"status {item.status}", item.error)
        if problem := misconfigured(item.status, error, who):
            return problem  # what else was taken is there under its id, and changes nothing when it comes again
        if 400 <= item.status < 500 and item.status not in (408, 409, 429):
            refused[position] = error.words()
        else:
            later = error
    if later is not None:
        return SinkUnavailable(f"{who}: some events were not taken ({later.words()}); all of them come again")
    return EventsRejected(refused) if refused else None


def misconfigured(status: int, error: Complaint, who: str) -> SinkMisconfigured | None:
    """What a person has to mend, if it is that."""
    remedy = _FOR_A_PERSON.get(error.type, "") if status in (400, 401, 403, 404) else ""
    for words, what in _NOT_THE_EVENT:
        if status == 400 and error.type in ("illegal_argument_exception", "validation_exception"):
            remedy = remedy or (what if words in (error.reason or "") else "")
    if not remedy and status not in (401, 403, 404):
        return None
    return SinkMisconfigured(f"{who}: {error.words()}" + (f"; {remedy}" if remedy else ""))


def decode_items(body: bytes, events: int, who: str) -> list[dict[str, Item]]:
    """The items of an answer. Raises SinkUnavailable where it does not tell what became of every event."""
    try:
        items = msgspec.json.decode(body, type=BulkAnswer).items
    except msgspec.MsgspecError:
        items = []
    if len(items) != events or not all(items):
        raise SinkUnavailable(f"{who}: the answer tells of {len(items)} events, {events} were sent; they come again")
    return items
