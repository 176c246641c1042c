"""Makes connections with a deadline that holds through name look-up, TCP, TLS and login, which libpq's own does not."""

import re
import select
from collections.abc import Iterator, Mapping
from typing import Any

from eventferry import clock
from eventferry.sink.errors import SinkError, SinkMisconfigured, SinkUnavailable
from eventferry.sink.postgresql.options import ServerOptions
from eventferry.sink.safe import safe_text
from eventferry.sink.wire import NameUnknown, Watchdog, resolve

_PORT = 5432
_STEADY = {
    "client_encoding": "UTF8",
    "gssencmode": "disable",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",  # ms; a path that was forgotten by a firewall is noticed while something is sent
}
# During the login libpq gives no SQLSTATE, and the server may speak any language: these are its English words.
_LATER = re.compile(
    r"too many (clients|connections)|slots are reserved|starting up|shutting down|in recovery|not accepting"
    r"|read-only|hot standby|server closed the connection|terminating|Connection (refused|reset|timed out)|No route"
    r"|No such file or directory|timeout|EOF detected|unreachable",
    re.I,
)
_NOBODY = re.compile(r"Connection (refused|timed out)|No route|No such file or directory")
_QUESTION = re.compile(r"\s+Is the server running[^?]*\?")  # libpq asks it after "Connection refused"
_FORBIDDEN = re.compile(
    r"authentication (failed|method)|SCRAM|no pg_hba\.conf|no password|does not exist|not permitted to log in"
    r"|permission denied|certificate|not currently accepting connections|requires|server does not support SSL"
    r"|root\.crt|private key",
    re.I,
)


def parse(options: ServerOptions, psycopg: Any) -> dict[str, str]:
    """libpq's parameters of the configured server. Raises SinkMisconfigured."""
    try:
        params = {
            key: str(value)
            for key, value in psycopg.conninfo.conninfo_to_dict(options.dsn.get_secret_value()).items()
            if value not in (None, "")
        }
    except psycopg.ProgrammingError:  # its text quotes the string
        raise SinkMisconfigured("dsn cannot be read; expected postgresql://user@host:5432/database") from None
    if not params.get("host") and not params.get("hostaddr"):
        raise SinkMisconfigured("dsn names no host; expected postgresql://user@host:5432/database")
    params.pop("connect_timeout", None)  # `timeout` is what counts
    if options.password is not None:
        params["password"] = options.password.get_secret_value()
    if options.ca_file is not None:
        if not options.ca_file.is_file():
            raise SinkMisconfigured(f"ca_file {options.ca_file} is not there or cannot be read")
        params["sslrootcert"] = str(options.ca_file)
        params.setdefault("sslmode", "verify-full")
    if options.sslmode is not None:
        params["sslmode"] = options.sslmode
    return {**_STEADY, "application_name": "eventferry", **params}


def who(params: Mapping[str, str]) -> str:
    """The server as messages name it: host, port and database."""
    host = params.get("host") or params.get("hostaddr", "")
    port = params.get("port", str(_PORT))
    place = host if host.startswith(("/", "@")) else f"{host}:{port}" if "," not in host else host
    return safe_text(f"{place}/{params.get('dbname') or params.get('user', '')}", 120)


def dial(params: Mapping[str, str], watchdog: Watchdog, psycopg: Any) -> Any:
    """A connection of psycopg in autocommit to the first address that lets us in.

    Raises SinkErrors, DeadlineReached.
    """
    problem: SinkError | None = None
    attempts = list(_attempts(params, watchdog))
    for number, attempt in enumerate(attempts):
        # A host that swallows everything must leave time for the next.
        share = watchdog.remaining() / (len(attempts) - number)
        pgconn = psycopg.pq.PGconn.connect_start(psycopg.conninfo.make_conninfo("", **attempt).encode())
        try:
            said = _finish(pgconn, share, psycopg)
        except BaseException:
            pgconn.finish()
            raise
        if said is None:
            pgconn.nonblocking = 1
            connection = psycopg.Connection(pgconn)
            connection.autocommit = True
            connection.prepare_threshold = None  # a pooler may give the next statement to another server process
            return connection
        problem = _meaning(said, who(attempt), attempt, needs_password=bool(pgconn.needs_password))
        pgconn.finish()
    raise problem or SinkUnavailable(f"{who(params)}: no address", untouched=True)


def _attempts(params: Mapping[str, str], watchdog: Watchdog) -> Iterator[dict[str, str]]:
    """The parameters for each address of each host: libpq itself would look names up without any deadline."""
    hosts = (params.get("host") or params.get("hostaddr", "")).split(",")
    given = params["hostaddr"].split(",") if params.get("hostaddr") else []
    ports = params.get("port", str(_PORT)).split(",")
    for number, host in enumerate(hosts):
        port = ports[min(number, len(ports) - 1)] or str(_PORT)
        one = {**params, "host": host, "port": port}
        one.pop("hostaddr", None)
        if host.startswith(("/", "@")):
            yield {"sslmode": "disable", **one}
            continue
        try:
            found = [given[number]] if given else _look_up(host, port, watchdog)
        except NameUnknown:
            if number + 1 < len(hosts):
                continue
            raise SinkUnavailable(f"{who(one)}: the host's name cannot be resolved", untouched=True) from None
        for address in found:
            loopback = address == "::1" or address.startswith("127.")
            yield {"sslmode": "prefer" if loopback else "require", **one, "hostaddr": address}


def _look_up(host: str, port: str, watchdog: Watchdog) -> list[str]:
    return list(dict.fromkeys(str(each[4][0]) for each in resolve(host, int(port), watchdog.remaining())))


def _finish(pgconn: Any, seconds: float, psycopg: Any) -> str | None:
    """Carry a connection that was begun to its end; None, or what went wrong."""
    status = psycopg.pq.PollingStatus
    ends = clock.monotonic() + seconds
    while pgconn.status != psycopg.pq.ConnStatus.BAD:
        said = pgconn.connect_poll()
        if said == status.OK:
            return None
        if said == status.FAILED:
            break
        waiting = select.poll()  # not select(): a busy daemon has more than 1024 descriptors
        waiting.register(pgconn.socket, select.POLLIN if said == status.READING else select.POLLOUT)
        if not waiting.poll(max(0.0, ends - clock.monotonic()) * 1000):
            return "timeout: no answer in time"
    return str(pgconn.get_error_message("utf-8"))


def _meaning(said: str, server: str, params: Mapping[str, str], *, needs_password: bool) -> SinkError:
    words = safe_text(_QUESTION.sub("", said).strip().split("FATAL:")[-1], 240, [params.get("password", "")])
    if needs_password and "password" not in params:
        return SinkMisconfigured(f"{server}: it asks for a password; set the option `password`")
    if "does not support SSL" in said:
        return SinkMisconfigured(
            f"{server}: it does not speak TLS; switch it on there, or set sslmode = 'disable' if the network is trusted"
        )
    if "certificate verify failed" in said:
        return SinkMisconfigured(
            f"{server}: its certificate cannot be verified; name the authority that issued it in ca_file"
        )
    if _FORBIDDEN.search(said) and not _LATER.search(said):
        return SinkMisconfigured(f"{server} refuses the user {params.get('user', '')!r}: {words}")
    remedy = "; check host and port in `dsn`, and whether it runs" if _NOBODY.search(said) else ""
    return SinkUnavailable(f"{server}: no connection: {words}{remedy}", untouched=True)
