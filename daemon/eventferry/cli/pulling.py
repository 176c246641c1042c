"""Tries what exports need: room to write to, and the packages of their forms."""

import importlib.util
import os
import shutil
from typing import TYPE_CHECKING

from eventferry.cli.wording import plural, size
from eventferry.config import Config
from eventferry.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from eventferry.cli.check import Steps


def check_exports(config: Config, steps: "Steps") -> None:
    """Tell whether exports can be made; where the pull side is off, only whether a schedule waits for it in vain."""
    enabled = [each for each in config.exports.schedules if each.enabled]
    if not config.pull.enabled:
        if enabled:
            count = plural(len(enabled), "schedule")
            steps.mind(f"exports {count} will not run: the pull side is off; set pull.enabled = true")
        return
    folder = config.exports.folder(config.state_dir)
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        steps.bad(f"exports {folder} cannot be written to; give it to the user that the service runs as", 78)
    else:
        planned = f", {plural(len(enabled), 'schedule')}" if enabled else ""
        steps.ok(f"exports {folder} can be written to, {size(shutil.disk_usage(above).free)} free{planned}")
    _check_bucket(config, steps)
    if config.api.public_url is None and any(each.email or each.webhook for each in enabled):
        steps.note(f"links in letters will begin with {config.api.base_url}; people elsewhere need api.public_url")
    for schedule in config.exports.schedules:
        if schedule.enabled and schedule.format == "parquet" and importlib.util.find_spec("pyarrow") is None:
            steps.bad(f"exports {schedule.name}: Parquet needs a package: pip install 'eventferry[parquet]'", 78)


def _check_bucket(config: Config, steps: "Steps") -> None:
    """Write, read and delete an object where finished exports go, if that is a bucket."""
    spec = config.exports.bucket_spec()
    if spec is None:
        return
    from eventferry.exports.bucket import Bucket, require_boto3

    try:
        require_boto3()
        for said in Bucket.of(*spec).check():
            steps.ok(f"exports {said}")
    except ConfigError as error:
        steps.bad(f"exports {error}", 78)
    except StoreError as error:
        steps.bad(f"exports {error}")
