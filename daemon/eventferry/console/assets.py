"""The console's style sheet, script and icon, held in memory and addressed by their content."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request, Response

from eventferry.api.problems import not_found

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_FOLDER = Path(__file__).parent / "static"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file; `digest` changes with its content."""

    name: str
    body: bytes
    media_type: str
    digest: str


@cache
def assets() -> dict[str, Asset]:
    """Every file that there is, by its name."""
    found = {}
    for path in sorted(_FOLDER.iterdir()):
        if path.suffix in _TYPES:
            body = path.read_bytes()
            found[path.name] = Asset(path.name, body, _TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:16])
    return found


def address(base: str, name: str) -> str:
    """The address of a file, another one after each change: browsers may keep what they have for ever."""
    return f"{base}/static/{name}?v={assets()[name].digest}"


def add_routes(routes: APIRouter) -> None:
    """The routes of the files; they need no session."""

    @routes.get("/static/{name}")
    def get_asset(name: str, request: Request) -> Response:
        """One file."""
        asset = assets().get(name)
        if asset is None:
            raise not_found()
        tag = f'"{asset.digest}"'
        is_named = request.query_params.get("v") == asset.digest
        headers = {"ETag": tag, "Cache-Control": "public, max-age=31536000, immutable" if is_named else "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(asset.body, media_type=asset.media_type, headers=headers)
