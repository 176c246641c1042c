"""The native routes of an export's files: listed with links, downloaded by key or by signed link."""

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request, Response

from eventferry.access.keys import Key
from eventferry.access.links import LinkRefused, check_link
from eventferry.api.auth import NATIVE, Requires, Way
from eventferry.api.download import RESPONSES, download, name_to_save
from eventferry.api.native.shown import FilesShown, show_files
from eventferry.api.parts import Parts, parts_of
from eventferry.api.problems import Problem
from eventferry.exports import requests

MayExport = Annotated[Key, Depends(Requires("exports", strict=True))]

LINK = Way("signed-link", {"type": "apiKey", "in": "query", "name": "signature"}, lambda _: None)
# What a link consists of: with any of these in the query the request is judged as a link.
LINK_PARAMETERS = ("expires", "key", "signature")


class RequiresOrLink(Requires):
    """A key with the scope, or in its place a signed link to this very file; then there is no key."""

    def __init__(self) -> None:
        super().__init__("exports", ways=(*NATIVE, LINK), strict=True)
        self.query_names = LINK_PARAMETERS

    def __call__(self, request: Request) -> Key:
        """The key; None for a link. Raises Problem: 403 for a forged link, 410 for one that has expired."""
        if not any(name in request.query_params for name in LINK_PARAMETERS):
            return super().__call__(request)
        path = request.path_params
        try:
            check_link(parts_of(request).keyring, path["export_id"], path["name"], request.url.query)
        except LinkRefused as refused:
            if refused.expired:
                raise Problem(410, "gone", "the link has expired; look at the export again for a new one") from None
            raise Problem(403, "forbidden", "the link is not valid; look at the export again for a new one") from None
        return cast(Key, None)


def add_to(routes: APIRouter, parts: Parts) -> None:
    """Register the routes."""
    desk = parts.desk

    @routes.get("/exports/{export_id}/files")
    def list_files(export_id: str, key: MayExport) -> FilesShown:
        """The files of a complete export with links that need no key; none before it is complete."""
        row = requests.get(desk, key, export_id)
        return FilesShown(files=show_files(desk, row, requests.files(desk, key, export_id)))

    def get_file(
        request: Request, export_id: str, name: str, key: Annotated[Key | None, Depends(RequiresOrLink())]
    ) -> Response:
        """One file. Range, If-Range and If-None-Match are understood; the ETag is the file's SHA-256."""
        if key is None:
            opened = requests.open_linked_file(desk, export_id, name)
        else:
            opened = requests.open_file(desk, key, export_id, name)
        return download(request, opened, name_to_save(opened))

    for method in ("GET", "HEAD"):
        routes.add_api_route(
            "/exports/{export_id}/files/{name}",
            get_file,
            methods=[method],
            response_class=Response,
            responses=RESPONSES,
            operation_id=f"{method.lower()}_file",
        )
