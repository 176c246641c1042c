"""Where in a requester's store the files of an export go, and what their credentials are encrypted for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from eventferry.exports.egress import Egress
from eventferry.exports.s3_target import S3Target, parse_s3_path
from eventferry.ledger.exports import FileRow

# With the export's id it ties encrypted credentials to their place.
CREDENTIALS = "store-credentials"


def target_of(destination: Mapping[str, Any], egress: Egress) -> S3Target:
    """The place that an S3 destination (wanted.S3.to_data) names. Raises TargetRefused."""
    url, endpoint, region = destination["url"], destination["endpoint"], destination["region"]
    if not url.lower().startswith("s3://"):
        endpoint = None  # such a URL names its store itself
    return parse_s3_path(url, egress, endpoint=endpoint, region=region)


def object_names(destination: Mapping[str, Any], export_id: str, files: Sequence[FileRow]) -> tuple[FileRow, ...]:
    """The files under the names that they get in the store."""
    name = destination["object_name"]
    if name is None or len(files) != 1:
        return tuple(files)
    return (replace(files[0], name=name.replace("{id}", export_id)),)
