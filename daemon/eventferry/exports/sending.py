"""Sends the files of an export to its requester's store, as a task of a process of its own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eventferry.access.keyring import Keyring
from eventferry.clock import monotonic
from eventferry.errors import ConfigError, EventferryError
from eventferry.exports.destination import CREDENTIALS, object_names, target_of
from eventferry.exports.egress import Egress
from eventferry.exports.progress import CANCEL, PROGRESS
from eventferry.exports.s3_destination import S3Credentials, UploadCancelled, UploadFailed, upload
from eventferry.exports.s3_target import TargetRefused
from eventferry.exports.task import MANIFEST, Failure
from eventferry.ledger.exports import FileRow

_PROGRESS_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class SendSpec:
    """What the task needs; the credentials are as the ledger holds them, encrypted."""

    export_id: str
    folder: Path
    work: Path
    files: tuple[FileRow, ...]
    destination: Mapping[str, Any]
    credentials: bytes
    state_dir: Path
    allow_endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """The files are in the store, under these names; `place` is the root of the operator's bucket, if it is that."""

    files: tuple[FileRow, ...]
    place: str | None = None


def send_files(spec: SendSpec) -> Sent | Failure:
    """Send them; progress, and the wish to stop, go through the work folder. Raises nothing that can be foreseen."""
    renamed = object_names(spec.destination, spec.export_id, spec.files)
    try:
        secret = Keyring(spec.state_dir).decrypt(CREDENTIALS, spec.export_id.encode(), spec.credentials)
        egress = Egress(spec.allow_endpoints)
        upload(
            target_of(spec.destination, egress),
            S3Credentials(**json.loads(secret)),
            _paths(spec, renamed),
            egress,
            progress=SendProgress(spec.work, spec.files),
            cancelled=(spec.work / CANCEL).exists,
            note=spec.folder / spec.export_id / ".upload",  # outlives the process, and goes with the export
        )
    except UploadFailed as error:
        return Failure("store", str(error), retryable=error.temporary)
    except (UploadCancelled, TargetRefused, ConfigError, EventferryError) as error:
        return Failure("destination", str(error), retryable=False)
    return Sent(renamed)


def _paths(spec: SendSpec, renamed: tuple[FileRow, ...]) -> list[tuple[Path, str]]:
    """What is sent, with its name there: of several files the manifest comes last, and says that all are there."""
    folder = spec.folder / spec.export_id
    found = [(folder / old.name, new.name) for old, new in zip(spec.files, renamed, strict=True)]
    return found if len(found) == 1 else [*found, (folder / MANIFEST, MANIFEST)]


class SendProgress:
    """Writes down in the work folder how much of the files a store has taken, at most twice a second."""

    def __init__(self, work: Path, files: Sequence[FileRow]) -> None:
        self._path = work / PROGRESS
        self._events = sum(each.events for each in files)
        self._bytes = sum(each.bytes for each in files)
        self._told = float("-inf")

    def __call__(self, sent: int) -> None:
        if monotonic() - self._told < _PROGRESS_SECONDS:
            return
        self._told = monotonic()
        said = {"events": self._events, "bytes": self._bytes, "percent": sent * 100 // max(1, self._bytes)}
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(said))
        part.rename(self._path)
