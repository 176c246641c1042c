"""Says which store a URL names: `s3://`, `gs://`, `azure://` with bucket and prefix, or a directory."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

KINDS = ("s3", "gs", "azure")
_REMEDY = "expected s3://bucket/prefix, gs://bucket/prefix, azure://container/prefix, file:///path or /path"
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{2,221}")


@dataclass(frozen=True, slots=True)
class Place:
    """A prefix of a bucket, or a directory, which has no bucket."""

    kind: str  # one of KINDS, or "directory"
    bucket: str
    prefix: str  # "" or ending in /; of a directory its absolute path

    @property
    def root(self) -> str:
        """Names the place: s3://bucket/prefix, /srv/events."""
        return self.prefix if self.kind == "directory" else f"{self.kind}://{self.bucket}/{self.prefix}".rstrip("/")


def place_of(url: str) -> Place:
    """The place that `url` names. Raises ValueError, which shows no credentials."""
    if url.startswith("/"):
        return Place("directory", "", _directory(url))
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"is not a URL; {_REMEDY}") from None
    if "@" in parts.netloc:
        raise ValueError(f"holds credentials, which have options of their own; {_REMEDY}")
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and unquote(parts.path).startswith("/"):
        return Place("directory", "", _directory(unquote(parts.path)))
    if parts.scheme in KINDS and parts.netloc and not _BUCKET.fullmatch(parts.netloc):
        raise ValueError(
            "has a bucket's name that is not valid; expected 3 characters or more: letters, digits, hyphens, dots"
        )
    if parts.scheme not in KINDS or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"names no store; {_REMEDY}")
    prefix = parts.path.strip("/")
    if re.search(r"[\x00-\x1f\x7f\\]|//|(^|/)\.\.?(/|$)", prefix):
        raise ValueError(f"has a prefix with an empty step, `..` or a control character; {_REMEDY}")
    return Place(parts.scheme, parts.netloc, f"{prefix}/" if prefix else "")


def _directory(path: str) -> str:
    if "\x00" in path:
        raise ValueError("holds a NUL character; expected a path")
    return str(Path(path))
