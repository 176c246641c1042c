"""Names each event by where it came from: the same event has the same id, however batches are cut."""

import hashlib

from eventferry.sink.batch import Batch


def event_ids(batch: Batch, *, epoch: bool = True) -> list[str]:
    """An id for each event of the batch, in order: letters, digits and dashes, up to 50 characters.

    It stands for the version of the object and the byte at which the event begins. With `epoch` a replay that
    duplicates on purpose has other ids. Where a batch does not say where its events begin (a dead letter that is sent
    once more) they are named after the batch.
    """
    starts = batch.starts()
    if sum(map(len, starts)) != batch.events or len(starts) != len(batch.parts):
        return [f"{batch.id}-{position}" for position in range(batch.events)]
    found: list[str] = []
    for part, bytes_ in zip(batch.parts, starts, strict=True):
        said = "\0".join((batch.epoch if epoch else "", *part.content))
        prefix = hashlib.blake2b(said.encode(errors="surrogatepass"), digest_size=15).hexdigest() + "-"
        found += [prefix + str(each) for each in bytes_]
    return found
