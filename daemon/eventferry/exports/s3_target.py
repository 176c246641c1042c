"""Reads where a requester wants the files: the ways in which people write a place in S3."""

import re
from dataclasses import dataclass, replace
from urllib.parse import unquote

from eventferry.errors import EventferryError
from eventferry.exports.egress import Egress, EgressRefused, parse_url
from eventferry.sink.safe import safe_text

LONGEST_KEY = 1024  # bytes, of S3
LONGEST_PREFIX = 800

_FORMS = (
    "https://bucket.s3.amazonaws.com/prefix/, https://s3.<region>.amazonaws.com/bucket/prefix/ or s3://bucket/prefix/"
)
_BUCKET = re.compile(r"[A-Za-z0-9](?!.*\.\.)[A-Za-z0-9._-]{1,61}[A-Za-z0-9]", re.ASCII)
_URL = re.compile(r"(?P<scheme>s3|https?)://(?P<host>[^/]+)(?P<path>/.*)?", re.IGNORECASE | re.DOTALL)
_REGION = r"(?P<region>[a-z]{2}(-[a-z]+){1,3}-[0-9]{1,2})"
_AWS = re.compile(
    rf"((?P<bucket>.+)\.)?s3((\.dualstack)?[.-]{_REGION})?\.amazonaws\.com(?P<china>\.cn)?", re.IGNORECASE | re.ASCII
)


class TargetRefused(EventferryError):
    """What was given is no place in S3 that may be written to; the text says how to write one."""


@dataclass(frozen=True, slots=True)
class S3Target:
    """A folder of a bucket. `endpoint`: None for AWS, else the base URL of the store; region None: to be found out."""

    bucket: str
    prefix: str  # "" or ending in /
    endpoint: str | None = None
    region: str | None = None

    def key(self, name: str) -> str:
        """The key of a file of that name. Raises TargetRefused where S3 would take no such key."""
        key = self.prefix + name
        if not name or len(key.encode()) > LONGEST_KEY:
            raise TargetRefused(
                f"{safe_text(name, 60)!r} cannot be a file below {safe_text(self.prefix, 60)!r}: too long"
            )
        return key

    @property
    def url(self) -> str:
        """For people: `s3://bucket/prefix/`, with the store's address where it is not AWS."""
        path = f"{self.bucket}/{self.prefix}"
        return f"{self.endpoint}/{path}" if self.endpoint else f"s3://{path}"


def parse_s3_path(text: str, egress: Egress, *, endpoint: str | None = None, region: str | None = None) -> S3Target:
    """The target that `text` names; a store other than AWS only where `egress` allows its host.

    With `endpoint` (https://host:port) `text` is `s3://bucket/prefix` in that store. `region` counts for more than the
    one in `text`. Raises TargetRefused; the host is not looked up, nobody is asked.
    """
    shown = safe_text(text.partition("?")[0].rpartition("@")[2], 80)
    found = _URL.fullmatch(text.strip()) if len(text) <= 2048 else None
    if found is None or "\\" in text or not text.isprintable():
        raise TargetRefused(f"{shown!r} is not a place in S3; write {_FORMS}")
    if "?" in text or "#" in text or "@" in found["host"]:
        raise TargetRefused(f"{shown!r} may hold neither a query nor credentials; write {_FORMS}")
    if region is not None and not re.fullmatch(r"[a-z0-9-]{1,40}", region):
        raise TargetRefused(f"{safe_text(region, 40)!r} is not a region; write one such as eu-central-1")
    scheme, host, path = found["scheme"].lower(), found["host"], found["path"] or "/"
    if endpoint is not None:
        if scheme != "s3":
            raise TargetRefused(f"{shown!r}: with an endpoint, write s3://bucket/prefix/")
        return replace(
            _own_target(endpoint, f"/{host}{path}", egress, safe_text(endpoint.rpartition("@")[2], 80)), region=region
        )
    return _without_endpoint(scheme, host, path, egress, shown, region)


def _without_endpoint(scheme: str, host: str, path: str, egress: Egress, shown: str, region: str | None) -> S3Target:
    if scheme == "s3":
        return _target(host, path, shown, region=region)
    aws = _AWS.fullmatch(host)
    if aws is None:
        return replace(_own_target(f"{scheme}://{host}", unquote(path), egress, shown), region=region)
    if scheme != "https":
        raise TargetRefused(f"{shown!r}: write https://, not http://")
    region = region or (aws["region"] or ("cn-north-1" if aws["china"] else "")).lower() or None
    bucket, rest = (aws["bucket"], unquote(path)) if aws["bucket"] else _split(unquote(path))
    return _target(bucket, rest, shown, region=region)


def _own_target(base: str, path: str, egress: Egress, shown: str) -> S3Target:
    if "/" in base.partition("://")[2].rstrip("/"):
        raise TargetRefused(f"{shown!r}: an endpoint has no path; write https://host:port")
    try:
        endpoint = parse_url(base)
        if not egress.is_own(endpoint):
            raise TargetRefused(
                f"{shown!r} is neither AWS ({_FORMS}) nor a store that the operator allows in [exports] allow_endpoints"
            )
        egress.check(base)
    except EgressRefused as error:
        raise TargetRefused(str(error)) from None
    bucket, rest = _split(path)
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return _target(bucket, rest, shown, endpoint=f"{endpoint.scheme}://{host}:{endpoint.port}")


def _split(path: str) -> tuple[str, str]:
    bucket, _, rest = path.removeprefix("/").partition("/")
    return bucket, rest


def _target(bucket: str, path: str, shown: str, endpoint: str | None = None, region: str | None = None) -> S3Target:
    if not _BUCKET.fullmatch(bucket):
        raise TargetRefused(f"{shown!r} names no bucket; write {_FORMS}")
    prefix = path.strip("/")
    if not prefix.isprintable() or {"", ".", ".."} & {*prefix.split("/")} - ({""} if not prefix else set()):
        raise TargetRefused(f"{shown!r}: the prefix holds an empty step, `.`, `..` or a control character")
    if len(prefix.encode()) > LONGEST_PREFIX:
        raise TargetRefused(f"{shown!r}: the prefix is longer than {LONGEST_PREFIX} bytes")
    return S3Target(bucket, f"{prefix}/" if prefix else "", endpoint, region)
