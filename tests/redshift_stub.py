"""Stands in for Amazon Redshift: a PostgreSQL behind a proxy that understands COPY … FROM 's3://…/manifest'.

Everything but COPY is PostgreSQL's own, and the files come from a real S3. What is not proved so: Redshift's parser,
its rights, its isolation, its own errors of COPY.
"""

import contextlib
import gzip
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.postgres_server import PostgresServer

_COPY = re.compile(
    rb"COPY (\S+) \((.*?)\) FROM 's3://([^/]+)/(.*?)' IAM_ROLE (?:default|'arn:aws:iam::\d{12}:role/\w+')"
    rb" MANIFEST GZIP FORMAT JSON 'auto' TIMEFORMAT 'auto' COMPUPDATE OFF\0"
)
Get = Callable[[str, str], bytes]  # bucket, key → object


@contextmanager
def redshift_stub(server: PostgresServer, get: Get) -> Iterator[int]:
    """The port on loopback where a database of `server` speaks like Redshift; `get` reads S3 as the cluster would."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=16)
    threads: list[threading.Thread] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                upstream = socket.create_connection(("127.0.0.1", server.port))
                for work in (_carry_up, _carry_down):
                    thread = threading.Thread(target=work, args=(client, upstream, get), daemon=True)
                    thread.start()
                    threads.append(thread)

    threads.append(threading.Thread(target=accept, daemon=True))
    threads[0].start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def prepare_database(server: PostgresServer) -> None:
    """What Redshift has and PostgreSQL has not: the type SUPER, and the table that says why a load failed."""
    server.run(
        "CREATE DOMAIN super AS jsonb",
        "CREATE TABLE sys_load_error_detail"
        " (column_name text, error_message text, file_name text, start_time timestamp)",
        "GRANT SELECT ON sys_load_error_detail TO PUBLIC",
    )


def folder_of(root: Path) -> Get:
    """Reads buckets that are folders."""
    return lambda bucket, key: (root / bucket / key).read_bytes()


def _carry_up(client: socket.socket, upstream: socket.socket, get: Get) -> None:
    with contextlib.suppress(OSError, EOFError), client.makefile("rb") as said:
        size = _exactly(said, 4)  # the startup message has no type
        upstream.sendall(size + _exactly(said, struct.unpack("!I", size)[0] - 4))
        while True:
            kind, size = _exactly(said, 1), _exactly(said, 4)
            body = _exactly(said, struct.unpack("!I", size)[0] - 4)
            found = _COPY.fullmatch(body) if kind == b"Q" else None
            if found:
                body = _load(found, get)
            upstream.sendall(kind + struct.pack("!I", len(body) + 4) + body)
    _cut(client, upstream)


def _carry_down(client: socket.socket, upstream: socket.socket, get: Get) -> None:
    with contextlib.suppress(OSError):
        while data := upstream.recv(65536):
            client.sendall(data)
    _cut(client, upstream)


def _exactly(said, size):  # type: ignore[no-untyped-def]
    data = said.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _cut(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _load(found: "re.Match[bytes]", get: Get) -> bytes:
    """The statement that puts the rows of the manifest's files into the table."""
    table, names, bucket, key = (each.decode() for each in found.groups())
    try:
        rows = [row for url in _entries(get(bucket, key)) for row in gzip.decompress(get(*url)).splitlines()]
    except FileNotFoundError:
        return _raise("S3ServiceException: The specified key does not exist.,Status 404,Error NoSuchKey")
    if any(b'"poison"' in row for row in rows):
        return _raise(f"Load into table '{table}' failed. Check 'sys_load_error_detail' system table for details.")
    objects = b"[" + b",".join(rows) + b"]"
    quoted = objects.replace(b"'", b"''")
    columns = names.encode()
    source = b"json_populate_recordset(NULL::%b, '%b')" % (table.encode(), quoted)
    return b"INSERT INTO %b (%b) SELECT %b FROM %b\0" % (table.encode(), columns, columns, source)


def _entries(manifest: bytes) -> Iterator[tuple[str, str]]:
    for entry in json.loads(manifest)["entries"]:
        assert entry["mandatory"] is True
        bucket, _, key = entry["url"].removeprefix("s3://").partition("/")
        yield bucket, key


def _raise(message: str) -> bytes:
    said = message.replace("'", "''")
    return f"DO $$BEGIN RAISE EXCEPTION '{said}' USING ERRCODE = 'XX000'; END$$\0".encode()
