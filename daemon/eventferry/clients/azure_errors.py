"""Says what an error of Azure Blob Storage means and what the operator does about it."""

from typing import Any

from eventferry.clients.diagnosis import Diagnosis, Kind, Remedies, remedy_of_class
from eventferry.errors import StoreError

_NO_RIGHTS = "give this identity the role Storage Blob Data Reader on the container, or a SAS token with read and list"
_REMEDIES = {
    "ContainerNotFound": "there is no such container; mend the source's url, or account_url",
    "ContainerBeingDeleted": "the container is being deleted; mend the source's url",
    "ResourceNotFound": "there is no such container; mend the source's url, or account_url",
    "AuthenticationFailed": "the key or token is not accepted; mend account_key or sas_token, and see that this "
    "machine's clock is right (timedatectl)",
    "InvalidAuthenticationInfo": "the key or token is not accepted; mend account_key, sas_token or the identity",
    "NoAuthenticationInformation": "the container is not public; set account_key, sas_token or an identity",
    "PublicAccessNotPermitted": "the account lets nobody in anonymously; set account_key, sas_token or an identity",
    "AuthorizationFailure": f"access is refused; mend account_key or sas_token, if one is set; else {_NO_RIGHTS}, and "
    "let this machine through the account's firewall",
    "AuthorizationPermissionMismatch": _NO_RIGHTS,
    "AuthorizationServiceMismatch": "the SAS token is not for blobs; make one that is",
    "AuthorizationResourceTypeMismatch": "the SAS token is not for containers and objects; make one that is",
    "AuthorizationSourceIPMismatch": "the SAS token is not for this machine's address; make one that is",
    "KeyBasedAuthenticationNotPermitted": "the account takes no keys; remove account_key and use an identity",
    "AccountIsDisabled": "the account is disabled; its owner can say why",
    "BlobArchived": "the object is archived; rehydrate it first or exclude it",
    "ServerBusy": "the store asks for fewer requests; it is tried again later",
    "InvalidResourceName": "the container's name is not valid; mend the source's url",
    "OutOfRangeInput": "the container's name is not valid; mend the source's url",
    "InvalidUri": "the container's name is not valid; mend the source's url",
    "InvalidHeaderValue": "the server is older than this client: it knows another version of the protocol only",
    "ConditionNotMet": "the object is no longer of the version asked for",
    "400": "the store refuses the request; check account_url and the container's name",
    "401": "the identity is not accepted; mend account_key, sas_token or the identity",
    "403": f"access is refused; {_NO_RIGHTS}",
    "404": "there is no such container; mend the source's url, or account_url",
    "409": "the state of the account or container forbids this; see the account's page",
}
_SERVER_FAULT = "the store has a fault of its own; it is tried again later"
_BY_CLASS = {
    "CredentialUnavailableError": "no identity found; set account_key, sas_token or connection_string, give the "
    "machine a managed identity, or set anonymous = true",
    "ClientAuthenticationError": "the identity was refused when a token was asked for; mend it, or client_id",
    "AzureSigningError": "account_key is not a key: it is not base64; copy it from the account's access keys",
    "SSLError": "the server's certificate is not trusted; set ca_file to the authority's certificate",
    "ProxyError": "the proxy cannot be reached; check HTTPS_PROXY and NO_PROXY",
    "ServiceRequestTimeoutError": "the store does not answer; check account_url, network and firewall",
    "ServiceResponseTimeoutError": "the store stopped answering; it is tried again later",
    "IncompleteReadError": "the store closed the connection; it is tried again later",
    "ServiceRequestError": "the store cannot be reached; check account_url, DNS and the network",
    "ServiceResponseError": "the store closed the connection; it is tried again later",
}
_UNREACHABLE = frozenset({"SSLError", "ProxyError", "ServiceRequestTimeoutError", "ServiceRequestError"})
_LATER = frozenset({"ServiceResponseTimeoutError", "IncompleteReadError", "ServiceResponseError"})
_GONE = frozenset({"BlobNotFound", "PathNotFound", "SnapshotNotFound"})
_CONFLICT = frozenset({"ConditionNotMet", "TargetConditionNotMet", "BlobAlreadyExists"})
_BUSY = frozenset({"ServerBusy", "OperationTimedOut", "InternalError", "ContainerBeingDeleted"})


def explain(error: BaseException, action: str, remedies: Remedies | None = None) -> StoreError:
    """`diagnose` as StoreError."""
    return diagnose(error, action, remedies).error()


def diagnose(error: BaseException, action: str, remedies: Remedies | None = None) -> Diagnosis:
    """What the error of azure.storage.blob, azure.core or azure.identity means; none of the server's own text.

    `remedies`, by the store's code, HTTP status or class, go before those for a source.
    """
    own = remedies or {}
    code, status = code_of(error)
    if status:
        shown = code or f"HTTP {status}"
        named = (own.get(each) or _REMEDIES.get(each) for each in (code, str(status)))
        fallback = _SERVER_FAULT if status >= 500 else "see the store's documentation of this code"
        return Diagnosis(_kind_of(code, status), f"{action}: {shown}; {next(filter(None, named), fallback)}")
    if found := remedy_of_class(error, {**_BY_CLASS, **own}):
        name, remedy = found
        kind = Kind.UNREACHABLE if name in _UNREACHABLE else Kind.LATER if name in _LATER else Kind.PERSON
        return Diagnosis(kind, f"{action}: {remedy}")
    return Diagnosis(Kind.LATER, f"{action}: failed with {type(error).__name__}; it is tried again later")


def code_of(error: BaseException) -> tuple[str, int]:
    """The store's code and the HTTP status that it answered with; "" and 0 where it gave none."""
    status: Any = getattr(error, "status_code", None)
    code: Any = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or ""), int(status or 0)


def _kind_of(code: str, status: int) -> Kind:
    if code in _GONE or (status == 404 and not code):
        return Kind.GONE
    if code in _CONFLICT or status == 412:
        return Kind.CONFLICT
    if code in _BUSY or status in (408, 429) or status >= 500:
        return Kind.LATER
    return Kind.PERSON
