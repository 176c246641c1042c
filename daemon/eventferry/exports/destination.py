"""Where in a requester's store the files of an export go, and what their credentials are encrypted for."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from eventferry.exports.egress import Egress
from eventferry.exports.s3_target import S3Target, TargetRefused, parse_s3_path
from eventferry.ledger.exports import FileRow

# With the export's id it ties encrypted credentials to their place.
CREDENTIALS = "store-credentials"

_REGION = re.compile(r"[a-z0-9-]{1,40}")


def target_of(destination: Mapping[str, Any], egress: Egress) -> S3Target:
    """The place that an S3 destination (wanted.S3.to_data) names. Raises TargetRefused."""
    url, endpoint, region = destination["url"], destination["endpoint"], destination["region"]
    if endpoint is not None and url.lower().startswith("s3://"):
        url = f"{endpoint.rstrip('/')}/{url[5:]}"
    target = parse_s3_path(url, egress)
    if region is None:
        return target
    if not _REGION.fullmatch(region):
        raise TargetRefused(f"{region[:40]!r} is not a region; write one such as eu-central-1")
    return replace(target, region=region)


def object_names(destination: Mapping[str, Any], export_id: str, files: Sequence[FileRow]) -> tuple[FileRow, ...]:
    """The files under the names that they get in the store."""
    name = destination["object_name"]
    if name is None or len(files) != 1:
        return tuple(files)
    return (replace(files[0], name=name.replace("{id}", export_id)),)
