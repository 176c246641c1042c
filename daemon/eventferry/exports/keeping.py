"""Puts the files of a finished export into the operator's bucket, as a task of a process of its own."""

from dataclasses import dataclass
from pathlib import Path

from eventferry.errors import ConfigError, StoreError
from eventferry.exports.bucket import Bucket
from eventferry.exports.progress import CANCEL
from eventferry.exports.s3_destination import UploadCancelled, UploadFailed
from eventferry.exports.sending import SendProgress, Sent
from eventferry.exports.task import MANIFEST, Cancelled, Failure
from eventferry.ledger.exports import FileRow


@dataclass(frozen=True, slots=True)
class KeepSpec:
    """What the task needs; the bucket holds the operator's credentials, and shows none."""

    export_id: str
    folder: Path
    work: Path
    files: tuple[FileRow, ...]
    bucket: Bucket


def keep_files(spec: KeepSpec) -> Sent | Cancelled | Failure:
    """Put the files there, the manifest last. Raises nothing that can be foreseen.

    Done again after a death it puts the same bytes under the same keys.
    """
    folder = spec.folder / spec.export_id
    try:
        spec.bucket.put(
            spec.export_id,
            [folder / name for name in (*(each.name for each in spec.files), MANIFEST)],
            progress=SendProgress(spec.work, spec.files),
            cancelled=(spec.work / CANCEL).exists,
            note=folder / ".upload",  # outlives the process, and goes with the folder
        )
    except UploadCancelled:
        return Cancelled()
    except (StoreError, ConfigError) as error:  # what a person must mend, too, may be mended within the hour
        return Failure("bucket", "its files cannot be kept now", retryable=True, detail=str(error))
    except (UploadFailed, OSError) as error:
        return Failure("disk", "its files cannot be read now", retryable=True, detail=str(error))
    return Sent(spec.files, spec.bucket.root)
