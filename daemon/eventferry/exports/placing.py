"""Decides where the finished files of an export belong, and which task puts them there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventferry.exports.desk import Desk
from eventferry.ledger import exports
from eventferry.ledger.exports import ExportRow, FileRow


def is_sent(desk: Desk, row: ExportRow) -> bool:
    """Whether its files are put into a store once they are made: its requester's, or the operator's bucket."""
    return row.destination["kind"] != "managed" or desk.bucket is not None


def sending(desk: Desk, row: ExportRow, work: Path, files: tuple[FileRow, ...]) -> tuple[Callable[[Any], Any], object]:
    """The task that does it, and what that needs."""
    from eventferry.exports.keeping import KeepSpec, keep_files
    from eventferry.exports.sending import SendSpec, send_files

    if row.destination["kind"] == "managed":
        bucket = desk.bucket
        assert bucket is not None, row.id
        with desk.ledger.write() as tx:  # before the first object: whatever happens, they will be found
            exports.set_place(tx, row.id, bucket.root)
        return keep_files, KeepSpec(row.id, desk.folder, work, files, bucket)
    with desk.ledger.read() as tx:
        credentials = exports.credentials(tx, row.id)
    assert credentials is not None, row.id
    return send_files, SendSpec(
        export_id=row.id,
        folder=desk.folder,
        work=work,
        files=files,
        destination=row.destination,
        credentials=credentials,
        state_dir=desk.state_dir,
        allow_endpoints=desk.settings.allow_endpoints,
    )
