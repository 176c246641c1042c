"""The files of an export, for the browser to save."""

from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from eventferry.api.download import download, name_to_save
from eventferry.api.parts import parts_of
from eventferry.console import pages
from eventferry.console.listing import Allowed
from eventferry.exports import requests


def add_routes(routes: APIRouter) -> None:
    """The routes that hand out files."""

    @routes.get("/exports/{id}/download")
    def download_only(id: str, request: Request, session: Allowed) -> Response:
        """The only file, or the page that names them all."""
        files = requests.files(parts_of(request).desk, session.key, id)
        if len(files) != 1:
            return pages.go_to(request, f"/exports/{quote(id, safe='')}")
        return pages.go_to(request, f"/exports/{quote(id, safe='')}/files/{quote(files[0].name, safe='')}")

    @routes.get("/exports/{id}/files/{name}")
    def download_file(id: str, name: str, request: Request, session: Allowed) -> Response:
        """One file; browsers can take up a broken download again."""
        opened = requests.open_file(parts_of(request).desk, session.key, id, name)
        return download(request, opened, name_to_save(opened))
