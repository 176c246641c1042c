"""Google Cloud Storage as a bucket."""

from collections.abc import Iterable
from inspect import unwrap
from json import JSONDecodeError
from typing import Any

from eventferry.clients.diagnosis import Diagnosis
from eventferry.clients.gcs import connect
from eventferry.clients.gcs_errors import diagnose, status_of
from eventferry.sink.errors import SinkError, SinkUnavailable
from eventferry.sink.objects.access import GcsAccess
from eventferry.sink.objects.base import Stored
from eventferry.sink.objects.network import Answer, NetworkBucket
from eventferry.sink.objects.places import Place
from eventferry.sink.wire import WatchedAdapter

_ABSENT = 0  # the generation of an object that is not there


class GcsBucket(NetworkBucket):
    """A bucket on Google Cloud Storage, which honours conditions by generation; emulators may not."""

    def __init__(self, place: Place, access: GcsAccess, seconds: float) -> None:
        super().__init__(place, seconds)
        self.conditional = access.endpoint is None
        self.identity = _identity(access)
        rights = (
            "grant these credentials the role Storage Object User on the bucket (storage.objects.create, get, list and"
            " delete)"
        )
        no_bucket = (
            f"there is no bucket {place.bucket}; make it (gcloud storage buckets create gs://{place.bucket}), or set"
            " create = true and project"
        )
        self._remedies = {
            "403": rights,
            "404": no_bucket,
            "409": "the bucket's name is taken by somebody else; choose another one",
            "413": "the object is larger than the store takes",
        }
        self._connected = False
        with self._explained(f"{self.root}: connecting"):
            # Not the client that stores share: its sockets are watched, and it belongs to one thread.
            self._client: Any = unwrap(connect)(access.client_options(seconds))
            self._watch()
            self._store = self._client.bucket(place.bucket, user_project=access.user_project)
        self._connected = True  # from now on what is no JSON is no file of credentials

    def make(self) -> bool:
        with self._calling("looking for the bucket", reads=True):
            found = self._client.lookup_bucket(self._bucket, **self._once())
        if found is None:
            with self._calling("making the bucket"):
                self._client.create_bucket(self._store, **self._once())
        return found is None

    def prove(self) -> None:
        with self._calling("listing it", reads=True):
            for _ in self._client.list_blobs(self._store, prefix=self._prefix, max_results=1, **self._once()):
                pass

    def close(self) -> None:
        self._client.close()

    def _write(self, key: str, body: bytes, *, absent: bool) -> None:
        # One request up to 8 MB, above it a session of a few; the object is there once the last one ends.
        condition = {"if_generation_match": _ABSENT} if absent else {}
        self._blob(key).upload_from_string(body, "application/octet-stream", **condition, **self._once())

    def _read(self, key: str) -> bytes:
        body: bytes = self._blob(key).download_as_bytes(**self._once())
        return body

    def _look(self, key: str) -> Stored | None:
        found = self._store.get_blob(self._prefix + key, **self._once())
        return None if found is None else Stored(int(found.size or 0), str(found.etag or found.generation or ""))

    def _remove(self, key: str) -> None:
        self._blob(key).delete(**self._once())

    def _names(self, prefix: str) -> Iterable[str]:
        return (blob.name for blob in self._client.list_blobs(self._store, prefix=prefix, **self._once()))

    def _blob(self, key: str) -> Any:
        return self._store.blob(self._prefix + key)

    def _once(self) -> dict[str, Any]:
        return {"retry": None, "timeout": self._left()}

    def _watch(self) -> None:
        """Put the client's connections under the deadline, and those of the token's server."""
        session = self._client._http
        for one in (session, getattr(session, "_auth_request_session", None)):
            if one is not None:
                one.mount("https://", WatchedAdapter(self._watchdog))
                one.mount("http://", WatchedAdapter(self._watchdog))

    def _meaning(self, error: Exception, action: str) -> SinkError:
        if self._connected and isinstance(error, JSONDecodeError) and not self._watchdog.fired:
            return SinkUnavailable(f"{action}: the answer is not one of the store; what it took is unknown")
        return super()._meaning(error, action)

    def _diagnose(self, error: Exception, action: str) -> Diagnosis:
        return diagnose(error, action, self._remedies)

    def _answer(self, error: Exception) -> Answer:
        response = getattr(error, "response", None)
        headers = getattr(response, "headers", None) or {}
        return Answer("", status_of(error), {str(name).lower(): str(value) for name, value in headers.items()})


def _identity(access: GcsAccess) -> str:
    if access.anonymous:
        return "anonymously"
    return f"with {access.credentials_file}" if access.credentials_file else "with Google's default credentials"
