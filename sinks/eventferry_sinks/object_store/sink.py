"""Writes batches as objects into S3, GCS, Azure or a directory, each once, with a manifest as the proof."""

import secrets
from collections.abc import Iterator, Mapping, Sequence

from eventferry.sink import (
    Batch,
    BatchLimits,
    BatchRejected,
    BatchTooLarge,
    Guarantee,
    Sink,
    SinkMisconfigured,
    SinkUnavailable,
)
from eventferry.sink.columns import Column
from eventferry.sink.objects import Bucket, open_bucket, place_of
from eventferry.sink.rows import Extractor, Rows
from eventferry.sink.tables import count_columns, values_in
from eventferry_sinks.object_store.formats import Format, make_format, pick
from eventferry_sinks.object_store.layout import Layout, other_layouts
from eventferry_sinks.object_store.manifest import Written, manifest_key, manifest_text, objects_of
from eventferry_sinks.object_store.options import TIME, ObjectStoreOptions
from eventferry_sinks.object_store.partitions import uses_time
from eventferry_sinks.object_store.schema import Agreed, agree

MOST_OBJECTS = 100  # of one batch: events of all times, each with a folder of its own, would never be done


class ObjectStoreSink(Sink[ObjectStoreOptions]):
    """Objects `<partition>/<batch id>.<suffix>`, one for each partition of a batch, then the manifest that lists them.

    Keys and bytes come from the batch alone, so that an attempt that follows another one overwrites it with the same;
    a batch that has a manifest is delivered, whatever the options were then.
    """

    Options = ObjectStoreOptions
    guarantee = Guarantee.EFFECTIVELY_ONCE
    proved_against = "directories, OpenStack Swift's S3, emulators of GCS and Azure"
    max_concurrency = 8
    limits = BatchLimits(max_events=100_000, max_bytes=64 * 1024 * 1024)

    _opened: Bucket | None = None
    _made = False
    _others: list[Layout] | None = None
    _agreed: Agreed | None = None
    _format: Format
    _layout: Layout
    _extractor: Extractor

    def open(self) -> None:
        """Make the client. Only a directory is looked at: a store that hangs is met under a batch's deadline."""
        options = self.options
        place = place_of(options.url)
        columns = options.all_columns()
        self._format = make_format(options.format, options.compression)
        self._layout = Layout(options.partition, self._format.suffix, columns[TIME].path)
        self._extractor = Extractor(columns if self._format.has_columns else {TIME: columns[TIME]})
        bucket = open_bucket(place, options.access(), options.timeout)
        if place.kind == "directory":
            self._make(bucket)
            bucket.prove()
        self._opened = bucket

    def deliver(self, batch: Batch) -> None:
        bucket = self._begin()
        written: list[Written] = []
        touched = False
        self._make(bucket)
        try:
            # In between `was_delivered` may have cleared away, and a late manifest come: what it lists is looked for.
            if _is_delivered(bucket, batch) if batch.attempt > 1 else bucket.head(manifest_key(batch)) is not None:
                return
            self._prepare(bucket)
            if batch.attempt > 1:  # an earlier one may have written under other options
                self._clear(bucket, batch, self._others or [])
            for key, content, events in self._objects(batch):
                written.append(Written.of(key, events, content))
                bucket.put(key, content)
                touched = True
                self.count("bytes.sent", number=len(content))
            if not bucket.put_new(manifest_key(batch), manifest_text(batch, written)):
                self._settle(bucket, batch, written)
        except (BatchTooLarge, BatchRejected):
            for one in written:  # the batch will be cut otherwise, and nobody would overwrite these
                bucket.delete(one.key)
            raise
        except SinkUnavailable as error:
            error.untouched = error.untouched and not touched
            raise

    def was_delivered(self, batch: Batch) -> bool | None:
        """Whether the batch has a manifest, and all that it lists.

        The daemon asks before it takes a batch apart: what an attempt left is removed where it is not whole, since the
        halves will lie under other keys.
        """
        bucket = self._begin()
        self._make(bucket)
        if _is_delivered(bucket, batch):
            return True
        self._prepare(bucket)
        self._clear(bucket, batch, [self._layout, *(self._others or [])])
        return False

    def check(self) -> Iterator[str]:
        bucket = self._begin()
        if self._make(bucket):
            yield f"{bucket.root} was created"
        bucket.prove()
        yield f"{bucket.root} lets us in {bucket.identity}"
        yield from self._try_out(bucket)
        if self._format.has_columns:
            agreed = agree(bucket, self.options.all_columns(), self.options.schema_contract, write=False)
            yield f"files there may have the columns {', '.join(agreed.written)}"

    def close(self) -> None:
        bucket, self._opened = self._opened, None
        if bucket is not None:
            bucket.close()

    def _begin(self) -> Bucket:
        if self._opened is None:
            raise RuntimeError("a call before open")
        self._opened.begin(self.options.timeout)
        return self._opened

    def _make(self, bucket: Bucket) -> bool:
        """Once in the life of an instance: create the bucket if that is wanted; whether it was created."""
        if self._made or not self.options.create:
            return False
        try:
            created = bucket.make()
        except SinkUnavailable as error:
            error.untouched = True  # nothing of a batch was sent
            raise
        self._made = True
        return created

    def _prepare(self, bucket: Bucket) -> None:
        """Once in the life of an instance: the schema and the layouts."""
        if self._others is not None:
            return
        try:
            if self._format.has_columns:
                self._agreed = agree(bucket, self.options.all_columns(), self.options.schema_contract)
            self._others = other_layouts(bucket, self._layout)
        except SinkUnavailable as error:
            error.untouched = True  # nothing of the batch is in what was written
            raise

    def _objects(self, batch: Batch) -> Iterator[tuple[str, bytes, int]]:
        """Key, content and number of events of each object, made one at a time."""
        columns = self.options.all_columns() if self._format.has_columns else {}
        asked = bool(columns) or uses_time(self._layout.partition)
        rows = self._extractor.extract(batch.body) if asked else Rows([[]])
        times = rows.values[list(columns).index(TIME) if columns else 0]
        groups = self._layout.groups(batch, times)
        if len(groups) > MOST_OBJECTS:
            raise BatchTooLarge(
                f"the batch belongs into {len(groups)} partitions, at most {MOST_OBJECTS} are written at once; expected"
                " smaller batches, or a coarser partition"
            )
        written = self._choose(rows, columns)
        for group in groups:
            body, some = (batch.body, rows) if group.positions is None else pick(batch.body, rows, group.positions)
            events = batch.events if group.positions is None else len(group.positions)
            content = self._format.encode(body, some, written, batch.id)
            yield self._layout.key(batch, group.folder), content, events

    def _choose(self, rows: Rows, columns: Mapping[str, Column]) -> Mapping[str, Column]:
        """The columns that may be written; drops others' values from `rows`; counts what people should see."""
        if not columns:
            return columns
        agreed = self._agreed or Agreed(columns)
        count_columns(self, rows.misfits, values_in(rows, columns, agreed.left_out))
        rows.values = [values for name, values in zip(columns, rows.values, strict=True) if name in agreed.written]
        return agreed.written

    def _settle(self, bucket: Bucket, batch: Batch, written: Sequence[Written]) -> None:
        """Another attempt, one that was given up, came first. What it wrote stands where it is whole, else ours."""
        theirs = objects_of(bucket.get(manifest_key(batch)) or b"") or []
        mine = {one.key for one in written}
        if {one.key for one in theirs} == mine:
            return
        if theirs and all(_is_there(bucket, one) for one in theirs):
            for key in mine - {one.key for one in theirs}:
                bucket.delete(key)
            return
        bucket.put(manifest_key(batch), manifest_text(batch, written))

    def _clear(self, bucket: Bucket, batch: Batch, layouts: Sequence[Layout]) -> None:
        """Remove what a batch without a manifest left under these layouts."""
        for key in dict.fromkeys(key for layout in layouts for key in layout.keys(batch)):
            bucket.delete(key)

    def _try_out(self, bucket: Bucket) -> Iterator[str]:
        probe, content = f"_eventferry-probe-{secrets.token_hex(8)}", b"eventferry check\n"
        bucket.put(probe, content)
        try:
            if bucket.get(probe) != content:
                raise SinkMisconfigured(f"{bucket.root}: {probe} came back with other bytes than were written")
            honoured = not bucket.put_if_absent(probe, content)
        finally:
            bucket.delete(probe)
        yield f"objects below {bucket.root} can be written, read back and deleted"
        yield (
            "it honours conditional writes"
            if honoured
            else "it ignores conditional writes: manifests are looked for before they are written instead"
        )


def _is_delivered(bucket: Bucket, batch: Batch) -> bool:
    text = bucket.get(manifest_key(batch))
    listed = None if text is None else objects_of(text)
    return listed is not None and all(_is_there(bucket, one) for one in listed)


def _is_there(bucket: Bucket, one: Written) -> bool:
    found = bucket.head(one.key)
    return found is not None and found.size == one.size
