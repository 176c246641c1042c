"""Sends a finished file: whole or a range of it, never a byte of another version."""

import re
from collections.abc import Generator
from email.utils import formatdate
from typing import Any, BinaryIO
from urllib.parse import quote

from fastapi import Request, Response

from eventferry.api.problems import Problem
from eventferry.api.streaming import Stream
from eventferry.exports.requests import OpenFile

PIECE = 256 * 1024
_LONGEST_SLUG = 60  # of file systems that take 255 bytes of UTF-8

MEDIA_TYPES = {
    ".csv": "text/csv; charset=utf-8",
    ".ndjson": "application/x-ndjson",
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".gz": "application/gzip",
    ".zst": "application/zstd",
    ".zip": "application/zip",
}
_FILE: dict[str, Any] = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": _FILE},
    206: {"description": "The range that was asked for.", "content": _FILE},
    304: {"description": "The file is the one that the client has."},
    409: {"description": "The export is not complete.", "content": {"application/problem+json": {}}},
    410: {"description": "The export's files, or the link, have expired.", "content": {"application/problem+json": {}}},
    416: {"description": "The range lies beyond the file.", "content": {"application/problem+json": {}}},
}

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def download(request: Request, opened: OpenFile, saved_as: str | None = None) -> Response:
    """The answer with the file, which it closes. Raises Problem, 416, for a range beyond its end.

    Several ranges at once are answered with the whole file, as HTTP allows. `saved_as`: the name that a browser gives
    it; its own where there is none.
    """
    size, etag = opened.row.bytes, f'"{opened.row.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Content-Disposition": disposition(saved_as or opened.row.name),
        "Content-Type": media_type(opened.row.name),
        "Cache-Control": "private, no-cache",
    }
    if opened.export.finished_ms is not None:
        headers["Last-Modified"] = formatdate(opened.export.finished_ms // 1000, usegmt=True)
    try:
        if _names(request.headers.get("if-none-match", ""), etag):
            opened.file.close()
            return Response(status_code=304, headers=headers)
        status, start, end = 200, 0, size
        if "range" in request.headers and request.headers.get("if-range", etag) in (etag, headers.get("Last-Modified")):
            found = part_of(request.headers["range"], size)
            if found is not None:
                status, (start, end) = 206, found
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    except Problem:
        opened.file.close()
        raise
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        opened.file.close()
        return Response(status_code=status, headers=headers)
    pieces = _pieces(opened.file, start, end)
    return Stream(pieces, headers["Content-Type"], status=status, headers=headers, quick=True)


def part_of(text: str, size: int) -> tuple[int, int] | None:
    """Start and end (exclusive) of the one range that a Range header names; None where it is not understood.

    Raises Problem, 416, where nothing of it lies in the file.
    """
    match = _RANGE.fullmatch(text.replace(" ", ""))
    if match is None or match[1] == match[2] == "":
        return None
    first, last = match[1], match[2]
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        said = f"the range {text[:60]!r} lies beyond the file, which has {size:,} bytes"
        raise Problem(416, "out-of-range", said, headers={"Content-Range": f"bytes */{size}"})
    return start, end


def media_type(name: str) -> str:
    """What kind of file it is, by the end of its name."""
    return next((kind for end, kind in MEDIA_TYPES.items() if name.endswith(end)), "application/octet-stream")


def name_to_save(opened: OpenFile) -> str:
    """daily-views-part-00001.csv: begins with the export, because the files of all exports have the same names."""
    export = re.sub(r"[\W_]+", "-", opened.export.name.lower())[:_LONGEST_SLUG].strip("-") or opened.export.id[:8]
    return f"{export}-{opened.row.name}"


def disposition(name: str) -> str:
    """The header that has a browser save the file under its name."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'attachment; filename="{plain}"{extended}'


def _names(header: str, etag: str) -> bool:
    return header.strip() == "*" or etag in (each.strip().removeprefix("W/") for each in header.split(","))


def _pieces(file: BinaryIO, start: int, end: int) -> Generator[bytes]:
    with file:
        file.seek(start)
        while start < end:
            piece = file.read(min(PIECE, end - start))
            if not piece:
                raise OSError("the file is shorter than it was")
            start += len(piece)
            yield piece
