"""Calls BigQuery through Google's own client: each call once, all of them under one deadline."""

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import requests
import urllib3.exceptions

from eventferry.sink import SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.answers import retry_after
from eventferry.sink.libraries import load
from eventferry.sink.safe import safe_text, safe_url
from eventferry.sink.wire import DeadlineReached, Watchdog, WatchedAdapter
from eventferry_sinks.bigquery.meaning import meaning_of_call

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)  # what impersonation needs; roles narrow it
_PUBLIC = "https://bigquery.googleapis.com"


class JobHidden(SinkMisconfigured):
    """A job that is absent, or may not be seen."""


class Api:
    """The part of BigQuery's REST API that the sink uses, for one table. Used by one thread at a time.

    Every method runs inside `within`, which bounds all calls together and turns every failure into a SinkError.
    """

    def __init__(
        self, project: str, table: str, *, endpoint: str | None, credentials_file: Path | None, impersonate: str | None
    ) -> None:
        """`table` is `project.dataset.table`. Touches nothing. Raises SinkMisconfigured without the library."""
        bigquery = load("google.cloud.bigquery", "eventferry[bigquery]")
        self.who = safe_url(endpoint or _PUBLIC)
        self.table = bigquery.TableReference.from_string(table)
        self.account = ""
        self._bigquery = bigquery
        self._project = project
        self._endpoint = endpoint
        self._file = credentials_file
        self._impersonate = impersonate
        self._watchdog = Watchdog()
        self._seconds = 0.0
        self._token_session = self._watched(requests.Session())
        self._session: Any = None
        self._client: Any = None

    def connect(self) -> None:
        """Take the credentials, and make the client. Raises SinkMisconfigured where there are none."""
        from google.api_core.client_options import ClientOptions
        from google.auth.transport.requests import AuthorizedSession, Request

        fetch = Request(self._token_session)
        make_session: Any = AuthorizedSession
        credentials = _credentials(self._endpoint, self._file, self._impersonate, fetch)
        self.account = str(getattr(credentials, "service_account_email", "") or "")
        self._session = self._watched(make_session(credentials, auth_request=fetch))
        self._client = self._bigquery.Client(
            project=self._project,
            credentials=credentials,
            _http=self._session,
            client_options=ClientOptions(api_endpoint=self._endpoint) if self._endpoint else None,
        )

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """All calls in the block together take `seconds` at most. Raises SinkErrors only."""
        from google.api_core.exceptions import GoogleAPICallError
        from google.auth.exceptions import GoogleAuthError, TransportError

        self._seconds = seconds
        self._watchdog.start(seconds)
        try:
            yield
        except GoogleAPICallError as error:
            raise self._refused(error) from None
        except TransportError as error:  # on the way to a token: the request itself has not left
            raise self._broken(error, untouched=True) from None
        except GoogleAuthError as error:
            raise _unauthorized(error, self.who) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            # `from None`: the texts of these libraries quote the whole URL.
            raise self._broken(error) from None
        finally:
            self._watchdog.stop()

    def remaining(self) -> float:
        """Seconds left of the block. Raises DeadlineReached."""
        return self._watchdog.remaining()

    def find_table(self) -> Any:
        """The table, or None."""
        return self._found(lambda: self._client.get_table(self.table, retry=None, timeout=self.remaining()))

    def create_table(self, table: Any) -> Any:
        """Create the table as described; somebody else may have been faster."""
        return self._client.create_table(table, exists_ok=True, retry=None, timeout=self.remaining())

    def change_schema(self, table: Any) -> Any:
        """Write the table's schema; refused (412) where somebody changed the table meanwhile."""
        return self._client.update_table(table, ["schema"], retry=None, timeout=self.remaining())

    def missing_rights(self, wanted: Sequence[str]) -> list[str]:
        """Those of the `wanted` permissions on the table that the account lacks."""
        answer = self._client.test_iam_permissions(self.table, wanted, retry=None, timeout=self.remaining())
        granted = answer.get("permissions", ())
        return [each for each in wanted if each not in granted]

    def find_job(self, job_id: str, location: str | None) -> Any:
        """The job, or None. Raises JobHidden where BigQuery does not say whether it is absent or not to be seen."""
        from google.api_core.exceptions import Forbidden

        try:
            return self._found(
                lambda: self._client.get_job(job_id, location=location, retry=None, timeout=self.remaining())
            )
        except Forbidden as error:
            if any(each.get("reason") == "accessDenied" for each in error.errors):
                raise JobHidden(
                    f"{self.who}: job {job_id} may not be looked up (accessDenied); grant bigquery.jobs.get on the "
                    f"project {self._project}"
                ) from None
            raise

    def start_load(self, job_id: str, location: str | None, packed: bytes) -> Any:
        """Start a load job of gzipped JSON lines into the table; None where a job of that id is there already."""
        from google.api_core.exceptions import Conflict

        config = self._bigquery.LoadJobConfig(
            source_format=self._bigquery.SourceFormat.NEWLINE_DELIMITED_JSON,
            write_disposition=self._bigquery.WriteDisposition.WRITE_APPEND,
            create_disposition=self._bigquery.CreateDisposition.CREATE_NEVER,
        )
        try:
            return self._client.load_table_from_file(
                io.BytesIO(packed),
                self.table,
                size=len(packed),
                num_retries=0,
                job_id=job_id,
                location=location,
                job_config=config,
                timeout=self.remaining(),
            )
        except Conflict:
            return None

    def insert(self, values: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """Stream values by tabledata.insertAll, each under its id; what was refused, as BigQuery says it."""
        found: Sequence[Mapping[str, Any]] = self._client.insert_rows_json(
            self.table, values, row_ids=ids, skip_invalid_rows=True, retry=None, timeout=self.remaining()
        )
        return found

    def close(self) -> None:
        """Close every connection; twice is harmless."""
        self._token_session.close()
        if self._session is not None:
            self._session.close()

    def _watched(self, session: Any) -> Any:
        session.trust_env = False  # a proxy of the environment would be outside the deadline
        for scheme in ("http://", "https://"):
            session.mount(scheme, WatchedAdapter(self._watchdog))
        return session

    def _found(self, call: Any) -> Any:
        from google.api_core.exceptions import NotFound

        try:
            return call()
        except NotFound:
            return None

    def _refused(self, error: Any) -> SinkError:
        headers: Mapping[str, str] = getattr(error.response, "headers", None) or {}
        wait = retry_after(headers.get("Retry-After"), _date_of(headers))
        return meaning_of_call(self.who, int(error.code or 0), error.errors, str(error.message), wait)

    def _broken(self, error: BaseException, untouched: bool = False) -> SinkError:
        causes = list(_causes(error))
        if self._watchdog.fired or any(isinstance(one, DeadlineReached | TimeoutError) for one in causes):
            said = f"{self.who} did not finish within {self._seconds:g} s; what it took is unknown"
            return SinkUnavailable(said)
        kept_out = (urllib3.exceptions.NewConnectionError, urllib3.exceptions.NameResolutionError)
        system = next((one for one in reversed(causes) if isinstance(one, OSError) and one.strerror), None)
        reason = system.strerror if isinstance(system, OSError) else type(causes[-1]).__name__
        if untouched or any(isinstance(one, kept_out) for one in causes):
            return SinkUnavailable(f"{self.who}: no connection: {reason}", untouched=True)
        if isinstance(error, requests.exceptions.SSLError):
            return SinkMisconfigured(f"{self.who}: its certificate cannot be verified ({reason})")
        return SinkUnavailable(f"{self.who}: the connection broke ({reason}); what it took is unknown")


def _credentials(endpoint: str | None, file: Path | None, impersonate: str | None, fetch: Any) -> Any:
    """Of the file, else the machine's own (ADC); none for another endpoint without a file."""
    import google.auth
    from google.auth import credentials, impersonated_credentials
    from google.auth.exceptions import GoogleAuthError
    from google.oauth2 import service_account

    of_file: Any = service_account.Credentials
    anonymous: Any = credentials.AnonymousCredentials
    lent: Any = impersonated_credentials.Credentials
    try:
        if file is not None:
            found = of_file.from_service_account_file(str(file), scopes=_SCOPES)
        elif endpoint is not None:
            found = anonymous()
        else:
            found, _ = google.auth.default(scopes=_SCOPES, request=fetch)
    except (GoogleAuthError, OSError, ValueError) as error:
        raise _unauthorized(error, str(file or "this machine")) from None
    if impersonate is None:
        return found
    return lent(found, impersonate, target_scopes=list(_SCOPES))


def _unauthorized(error: BaseException, who: str) -> SinkError:
    if getattr(error, "retryable", False):
        return SinkUnavailable(f"{who}: no access token now ({type(error).__name__})", untouched=True)
    # Only the first line: the rest may be what the server said about a token.
    said = safe_text(str(error.args[0] if error.args else error).partition("\n")[0], 200)
    return SinkMisconfigured(
        f"{who}: there are no usable credentials ({said}); set credentials_file to a service account's key file,"
        " or give the machine's own account the roles that the README of this type names"
    )


def _date_of(headers: Mapping[str, str]) -> datetime:
    """When the answer was made, by the other side's own clock."""
    try:
        moment = parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, TypeError):
        return datetime.max.replace(tzinfo=UTC)  # nothing is after that: only whole seconds count then
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """`error` and what lies under it, outermost first."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        held = [one for one in (getattr(error, "reason", None), *error.args) if isinstance(one, BaseException)]
        error = error.__cause__ or (held[0] if held else error.__context__)
