"""Object stores for sinks: writing into S3, GCS, Azure or a directory with one deadline and the contract's errors."""

from eventferry.sink.errors import SinkMisconfigured
from eventferry.sink.objects.access import Access, AzureAccess, GcsAccess, S3Access
from eventferry.sink.objects.base import Bucket, Stored
from eventferry.sink.objects.places import Place, place_of

__all__ = [
    "Access",
    "AzureAccess",
    "Bucket",
    "GcsAccess",
    "Place",
    "S3Access",
    "Stored",
    "open_bucket",
    "place_of",
]


def open_bucket(place: Place, access: Access | None = None, seconds: float = 30.0) -> Bucket:
    """The bucket at `place`, reached as `access` says; for a call without `begin` it has `seconds`.

    No request is made. Raises SinkMisconfigured where the client library is missing (the text names the command that
    installs it), where credentials cannot be found, or where `access` is that of another store.
    """
    if access is not None and access.scheme != place.kind:
        raise SinkMisconfigured(f"{place.root}: the table of access is one for {access.scheme}:// URLs")
    # Each is imported where it is used: two of three users have none of the libraries of the third.
    if place.kind == "s3":
        from eventferry.sink.objects.s3 import S3Bucket

        assert access is None or isinstance(access, S3Access)
        return S3Bucket(place, access or S3Access(), seconds)
    if place.kind == "gs":
        from eventferry.sink.objects.gcs import GcsBucket

        assert access is None or isinstance(access, GcsAccess)
        return GcsBucket(place, access or GcsAccess(), seconds)
    if place.kind == "azure":
        from eventferry.sink.objects.azure import AzureBucket

        assert access is None or isinstance(access, AzureAccess)
        return AzureBucket(place, access or AzureAccess(), seconds)
    from eventferry.sink.objects.directory import DirectoryBucket

    return DirectoryBucket(place)
