"""Says what an error of Google Cloud Storage means and what the operator does about it."""

from typing import Any

from eventferry.clients.diagnosis import Diagnosis, Kind, Remedies, remedy_of_class
from eventferry.errors import StoreError

_REMEDIES = {
    "400": "the store refuses the request; check the bucket's name, and set user_project if the requester pays",
    "401": "the credentials are not accepted; mend credentials_file, or the machine's service account",
    "403": "grant these credentials storage.objects.list and storage.objects.get on the bucket (the role Storage "
    "Object Viewer), and serviceusage.services.use on user_project, if it is set",
    "404": "there is no such bucket; mend the source's url",
    "408": "the store stopped answering; it is tried again later",
    "412": "the object is no longer of the version asked for",
    "429": "the store asks for fewer requests; it is tried again later",
}
_SERVER_FAULT = "the store has a fault of its own; it is tried again later"
_BY_CLASS = {
    "DefaultCredentialsError": "no credentials found; set credentials_file, give the machine a service account, or set "
    "anonymous = true",
    "MalformedError": "the file of credentials is not Google's JSON of a key or an identity; mend credentials_file",
    "RefreshError": "the credentials were refused when a token was asked for; make a new key, or mend credentials_file",
    "SSLError": "the server's certificate is not trusted; set ca_file to the authority's certificate",
    "ProxyError": "the proxy cannot be reached; check HTTPS_PROXY and NO_PROXY",
    "ConnectTimeout": "the store does not answer; check endpoint, network and firewall",
    "ReadTimeout": "the store stopped answering; it is tried again later",
    "ChunkedEncodingError": "the store closed the connection; it is tried again later",
    "ConnectionError": "the store cannot be reached; check endpoint, DNS and the network",
    "TransportError": "the server of tokens cannot be reached; check DNS, the network and the firewall",
    "ValueError": "the file of credentials is not Google's JSON of a key or an identity; mend credentials_file",
    "FileNotFoundError": "there is no such file of credentials; mend credentials_file",
    "PermissionError": "the service's user cannot read the file of credentials; give it to the group eventferry",
    "DataCorruption": "the bytes that came are not those of the object; it is tried again later",
}
_UNREACHABLE = frozenset({"ConnectTimeout", "ConnectionError", "ProxyError", "SSLError", "TransportError"})
_LATER = frozenset({"ReadTimeout", "ChunkedEncodingError", "DataCorruption"})


def explain(error: BaseException, action: str, remedies: Remedies | None = None) -> StoreError:
    """`diagnose` as StoreError."""
    return diagnose(error, action, remedies).error()


def diagnose(error: BaseException, action: str, remedies: Remedies | None = None) -> Diagnosis:
    """What the error of google.cloud.storage, google.auth or requests means; none of the server's own text.

    `remedies`, by HTTP status or class, go before those for a source.
    """
    own = remedies or {}
    status = status_of(error)
    if status:
        code = str(status)
        remedy = own.get(code) or _REMEDIES.get(code) or (_SERVER_FAULT if status >= 500 else "see the store's logs")
        return Diagnosis(_kind_of(status, error), f"{action}: HTTP {code}; {remedy}")
    if found := remedy_of_class(error, {**_BY_CLASS, **own}):
        name, remedy = found
        kind = Kind.UNREACHABLE if name in _UNREACHABLE else Kind.LATER if name in _LATER else Kind.PERSON
        if name == "ConnectionError" and _was_connected(error):
            return Diagnosis(Kind.LATER, f"{action}: {_BY_CLASS['ChunkedEncodingError']}")
        return Diagnosis(kind, f"{action}: {remedy}")
    return Diagnosis(Kind.LATER, f"{action}: failed with {type(error).__name__}; it is tried again later")


def status_of(error: BaseException) -> int:
    """The HTTP status that the store answered with; 0 where it gave none."""
    seen: BaseException | None = error
    while seen is not None:
        code: Any = getattr(seen, "code", None)
        if isinstance(code, int) and hasattr(seen, "errors"):
            return int(code)
        seen = getattr(seen, "cause", None) or seen.__cause__  # RetryError keeps what it gave up on
    return 0


def _kind_of(status: int, error: BaseException) -> Kind:
    if status == 404:
        return Kind.GONE if _names_an_object(error) else Kind.PERSON
    if status == 412:
        return Kind.CONFLICT
    return Kind.LATER if status in (408, 429) or status >= 500 else Kind.PERSON


def _names_an_object(error: BaseException) -> bool:
    """Whether the missing thing is an object: Google says so of the bucket itself in as many words."""
    return "specified bucket does not exist" not in str(error)


def _was_connected(error: BaseException) -> bool:
    """Whether a ConnectionError of requests came after the connection: the request may have been read."""
    seen: BaseException | None = error
    while seen is not None:
        if type(seen).__name__ in ("ProtocolError", "RemoteDisconnected", "ReadTimeoutError"):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
