"""Azure Blob Storage as a bucket."""

from collections.abc import Iterable
from typing import Any

from eventferry.clients.azure import make_service, require_azure
from eventferry.clients.azure_errors import code_of, diagnose
from eventferry.clients.diagnosis import Diagnosis
from eventferry.sink.objects.access import AzureAccess
from eventferry.sink.objects.base import Stored
from eventferry.sink.objects.network import Answer, NetworkBucket
from eventferry.sink.objects.places import Place
from eventferry.sink.wire import WatchedAdapter

_SCOPE = "https://storage.azure.com/.default"
_WHOLE = 5000 * 1024 * 1024  # bytes that go up in one request; above it the service wants blocks


class AzureBucket(NetworkBucket):
    """A container of Azure Blob Storage, which honours If-None-Match."""

    conditional = True

    def __init__(self, place: Place, access: AzureAccess, seconds: float) -> None:
        super().__init__(place, seconds)
        self.identity = _identity(access)
        rights = (
            "give this identity the role Storage Blob Data Contributor on the container, or a SAS token with read,"
            " add, create, write, delete and list"
        )
        no_container = (
            f"there is no container {place.bucket}; make it (az storage container create --name {place.bucket}), or set"
            " create = true"
        )
        self._remedies = {
            "ContainerNotFound": no_container,
            "ResourceNotFound": no_container,
            "404": no_container,
            "AuthorizationPermissionMismatch": rights,
            "AuthorizationFailure": f"{rights}, and let this machine through the account's firewall",
            "403": rights,
            "InvalidResourceName": "the container's name is not valid; mend url",
        }
        with self._explained(f"{self.root}: connecting"):
            self._credential: Any = None
            self._service = self._connect(access)
            self._container = self._service.get_container_client(place.bucket)

    def make(self) -> bool:
        with self._calling("looking for the container", reads=True):
            there = self._container.exists()
        if not there:
            with self._calling("making the container"):
                self._container.create_container()
        return not there

    def prove(self) -> None:
        with self._calling("listing it", reads=True):
            pages = self._container.list_blob_names(name_starts_with=self._prefix, results_per_page=1).by_page()
            next(iter(pages), None)

    def close(self) -> None:
        self._service.close()
        self._session.close()

    def _connect(self, access: AzureAccess) -> Any:
        """A client for this bucket alone: its sockets are watched, and it belongs to one thread."""
        require_azure()
        import requests
        from azure.core.pipeline.transport import RequestsTransport

        options = access.client_options(self.seconds)
        self._session = requests.Session()
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, WatchedAdapter(self._watchdog))
        service = make_service(
            options,
            transport=RequestsTransport(
                session=self._session,
                session_owner=False,
                connection_verify=str(options.ca_file) if options.ca_file else True,
            ),
            connection_timeout=self.seconds,
            read_timeout=self.seconds,
            retry_total=0,
            logging_enable=False,
            max_single_put_size=_WHOLE,
        )
        self._credential = service.credential if hasattr(service.credential, "get_token") else None
        return service

    def _write(self, key: str, body: bytes, *, absent: bool) -> None:
        self._blob(key).upload_blob(body, length=len(body), overwrite=not absent)

    def _read(self, key: str) -> bytes:
        body: bytes = self._container.download_blob(self._prefix + key).readall()
        return body

    def _look(self, key: str) -> Stored:
        found = self._blob(key).get_blob_properties()
        return Stored(int(found.size), str(found.etag or "").strip('"'))

    def _remove(self, key: str) -> None:
        self._blob(key).delete_blob()

    def _names(self, prefix: str) -> Iterable[str]:
        names: Iterable[str] = self._container.list_blob_names(name_starts_with=prefix)
        return names

    def _blob(self, key: str) -> Any:
        return self._container.get_blob_client(self._prefix + key)

    def _sign_in(self) -> None:
        if self._credential is not None:
            self._within(lambda: self._credential.get_token(_SCOPE))

    def _diagnose(self, error: Exception, action: str) -> Diagnosis:
        return diagnose(error, action, self._remedies)

    def _answer(self, error: Exception) -> Answer:
        code, status = code_of(error)
        response = getattr(error, "response", None)
        headers = getattr(response, "headers", None) or {}
        return Answer(code, status, {str(name).lower(): str(value) for name, value in headers.items()})


def _identity(access: AzureAccess) -> str:
    if access.anonymous:
        return "anonymously"
    if access.account_key or access.connection_string:
        return "with the account's key"
    return "with a SAS token" if access.sas_token else "as the machine's identity"
