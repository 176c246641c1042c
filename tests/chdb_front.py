"""ClickHouse's HTTP interface in front of chdb, the engine as a library: `.venv-chdb/bin/python tests/chdb_front.py`.

The engine is real, of today, and the front is the tests' own: one statement at a time; users, settings in the URL,
compressed and chunked bodies, statuses and headers as ClickHouse has them. It prints its URL once it listens, and
imports nothing but chdb, what comes with it, and the standard library.
"""

import argparse
import base64
import re
import shutil
import tempfile
import threading
import urllib.parse
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from chdb import session

NOT_SETTINGS = {"query", "query_id", "wait_end_of_query", "database"}
STATUS = {193: 403, 516: 403, 497: 403, 60: 404, 81: 404, 16: 404, 115: 404, 62: 400, 27: 400, 26: 400, 469: 500}


class Engine:
    """One session, whose statements run one after the other."""

    def __init__(self, folder: str) -> None:
        self._session = session.Session(folder)
        self._lock = threading.Lock()

    def run(self, statement: bytes) -> bytes:
        """What the statement answers. Raises RuntimeError with the engine's words."""
        # Bytes that are no UTF-8 are no statement; ClickHouse itself would take them.
        with self._lock:
            return bytes(self._session.query(statement.decode(), "TabSeparated").bytes())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    engine: Engine
    user, password = "default", ""

    def do_POST(self) -> None:
        body = self._body()
        if body is None:  # its sender died in the middle
            self.close_connection = True
            return
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        head = query.get("query", "").encode()
        if not self._is_known():
            self._answer(403, b"Code: 516. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)", 516)
            return
        try:
            self._answer(200, self.engine.run(with_settings(head + b"\n" + body if head else body, query)))
        except UnicodeDecodeError:
            self._answer(400, b"Code: 117. DB::Exception: not UTF-8. (INCORRECT_DATA)", 117)
        except RuntimeError as error:
            words = str(error)
            found = re.search(r"Code: (\d+)", words)
            code = int(found[1]) if found else 1001
            self._answer(STATUS.get(code, 500), words.encode(), code)

    do_GET = do_POST

    def log_message(self, *args: object) -> None:
        pass

    def _is_known(self) -> bool:
        kind, _, given = self.headers.get("Authorization", "").partition(" ")
        if not kind:
            return not self.password
        return base64.b64decode(given).decode() == f"{self.user}:{self.password}"

    def _body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            raw = self._chunks()
        else:
            length = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(length)
            raw = raw if len(raw) == length else None
        return None if raw is None else unpacked(raw, self.headers.get("Content-Encoding", ""))

    def _chunks(self) -> bytes | None:
        found = []
        while line := self.rfile.readline(100):
            size = int(line.strip() or b"0", 16)
            chunk = self.rfile.read(size)
            if len(chunk) < size or self.rfile.readline(3) != b"\r\n":
                return None
            if size == 0:
                return b"".join(found)
            found.append(chunk)
        return None

    def _answer(self, status: int, body: bytes, code: int = 0) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-ClickHouse-Server-Display-Name", "chdb")
        if code:
            self.send_header("X-ClickHouse-Exception-Code", str(code))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, address: object) -> None:
        pass  # clients of the tests leave in the middle on purpose


def unpacked(raw: bytes, encoding: str) -> bytes:
    """A body as it was before its Content-Encoding."""
    if encoding == "gzip":
        return zlib.decompress(raw, 31)
    if encoding == "zstd":
        import pyarrow  # chdb brings it

        return pyarrow.input_stream(pyarrow.py_buffer(raw), compression="zstd").read()
    return raw


def with_settings(statement: bytes, query: dict[str, str]) -> bytes:
    """The statement with the settings of the URL: this engine takes them as a part of the SQL only."""
    settings = ", ".join(f"{name} = {literal(value)}" for name, value in query.items() if name not in NOT_SETTINGS)
    if not settings:
        return statement
    head, newline, data = statement.partition(b"\n")
    before, word, after = head.rpartition(b" FORMAT ")
    return before + b" SETTINGS " + settings.encode() + word + after + newline + data


def literal(value: str) -> str:
    """A setting's value in SQL."""
    return value if re.fullmatch(r"\d+(\.\d+)?", value) else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--user", default="default")
    parser.add_argument("--password", default="")
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="chdb-")
    try:
        Handler.engine = Engine(folder)
        Handler.user, Handler.password = arguments.user, arguments.password
        server = Server(("127.0.0.1", 0), Handler)
        print(f"listening on http://127.0.0.1:{server.server_address[1]}/", flush=True)
        server.serve_forever(poll_interval=0.05)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    import signal
    import sys

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    main()
