"""Tries what exports need: room to write to, and the packages of their forms."""

import importlib.util
from typing import TYPE_CHECKING

from eventferry import installing
from eventferry.cli import room
from eventferry.cli.wording import plural
from eventferry.config import Config
from eventferry.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from eventferry.cli.check import Steps

SERVER_PACKAGES = ("fastapi", "uvicorn", "jinja2", "cryptography")


def check_exports(config: Config, steps: "Steps") -> None:
    """Tell whether exports can be made; where the pull side is off, only whether a schedule waits for it in vain."""
    enabled = [each for each in config.exports.schedules if each.enabled]
    if not config.pull.enabled:
        if enabled:
            count = plural(len(enabled), "schedule")
            steps.mind(f"exports {count} will not run: the pull side is off; set pull.enabled = true")
        return
    planned = f", {plural(len(enabled), 'schedule')}" if enabled else ""
    room.check_folder("exports", config.exports.folder(config.state_dir), planned, steps)
    _check_bucket(config, steps)
    if config.api.public_url is None and any(each.email or each.webhook for each in enabled):
        steps.note(f"links in letters will begin with {config.api.base_url}; people elsewhere need api.public_url")
    _check_packages(config, steps)


def missing_packages() -> list[str]:
    """What `eventferry serve` needs and this installation lacks."""
    return [name for name in SERVER_PACKAGES if importlib.util.find_spec(name) is None]


def _check_packages(config: Config, steps: "Steps") -> None:
    """Tell what the server and Parquet lack. Without the server, only schedules make exports."""
    enabled = [each for each in config.exports.schedules if each.enabled]
    if missing := missing_packages():
        lacks = f"server  `eventferry serve` needs {', '.join(missing)}: {installing.command('eventferry[api]')}"
        if enabled:
            steps.mind(f"{lacks}; until then only the schedules make exports")
        else:
            steps.bad(lacks, 78)
    if importlib.util.find_spec("pyarrow") is not None:
        return
    wanted = [each.name for each in enabled if each.format == "parquet"]
    for name in wanted:
        steps.bad(f"exports {name}: Parquet needs a package: {installing.command('eventferry[parquet]')}", 78)
    if not wanted:
        steps.note(f"Parquet files can be asked for after {installing.command('eventferry[parquet]')}")


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
