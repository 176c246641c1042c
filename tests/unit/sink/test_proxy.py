"""The proxy of the kit loses replies and breaks connections exactly where it is told to."""

import contextlib
import socket
import socketserver
import threading

import pytest

from eventferry.sink.kit.proxy import CuttingProxy


@pytest.fixture
def server():
    """Answers every line with `did <line>`; `.done` is what took effect."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            with contextlib.suppress(OSError):
                for line in self.rfile:
                    self.server.done.append(line.strip())
                    self.wfile.write(b"did ")
                    self.wfile.write(line)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as one:
        one.done = []
        threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield one
        one.shutdown()


@pytest.fixture
def proxy(server):
    with CuttingProxy(*server.server_address) as one:
        yield one


def _ask(proxy, *pieces, timeout=5):
    """What comes back; b"" where the connection broke."""
    with socket.create_connection(proxy.address, timeout=timeout) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for piece in pieces:
                client.sendall(piece)
            reader = client.makefile("rb")
            return reader.readline()
        except ConnectionError:
            return b""


def test_everything_passes_without_a_trap(server, proxy):
    """Bytes go both ways as they are."""
    assert _ask(proxy, b"COMMIT\n") == b"did COMMIT\n"
    assert proxy.snapped == 0


def test_a_lost_reply_has_its_effect_once(server, proxy):
    """cut_after: the server does it, the client hears nothing, and the next time all passes."""
    proxy.cut_after(b"COMMIT")
    assert _ask(proxy, b"insert\n") == b"did insert\n"
    assert _ask(proxy, b"COMMIT\n") == b""
    assert server.done == [b"insert", b"COMMIT"]
    assert _ask(proxy, b"COMMIT\n") == b"did COMMIT\n"
    assert proxy.snapped == 1


def test_a_reply_in_several_steps_is_waited_for(server, proxy):
    """With `reply`, the connection lives until the server has said it, whatever it said before."""
    proxy.cut_after(b"begin", reply=b"did COMMIT")
    assert _ask(proxy, b"begin\n", b"COMMIT\n") == b""
    assert server.done == [b"begin", b"COMMIT"]


def test_a_pattern_may_span_writes(server, proxy):
    """The pattern is found wherever the network cut it."""
    proxy.cut_after(b"COMMIT", times=2)
    for _ in range(2):
        assert _ask(proxy, b"COM", b"MIT\n") == b""
    assert proxy.snapped == 2
    assert server.done == [b"COMMIT"] * 2


def test_a_crash_before_has_no_effect(server, proxy):
    """cut_before: what stands before the pattern arrives, the pattern does not."""
    proxy.cut_before(b"COMMIT")
    assert _ask(proxy, b"insert\nCOMMIT\n") in (b"", b"did insert\n")
    assert b"COMMIT" not in server.done
    assert _ask(proxy, b"COMMIT\n") == b"did COMMIT\n"


def test_a_stalled_reply_never_comes(server, proxy):
    """stall_after: the effect is there, and the client waits until its own deadline."""
    proxy.stall_after(b"COMMIT")
    with pytest.raises(TimeoutError):
        _ask(proxy, b"COMMIT\n", timeout=0.2)
    assert server.done == [b"COMMIT"]


def test_a_trap_can_be_taken_away(server, proxy):
    """pass_all disarms."""
    proxy.cut_after(b"COMMIT")
    proxy.pass_all()
    assert _ask(proxy, b"COMMIT\n") == b"did COMMIT\n"


def test_a_unix_socket_is_a_server_too(tmp_path):
    """The other side may be a path; a server that has gone breaks the connection."""
    path = tmp_path / "server.sock"
    with socket.socket(socket.AF_UNIX) as listener, CuttingProxy(path) as proxy:
        assert _ask(proxy, b"x\n") == b""
        listener.bind(str(path))
        listener.listen()
        with socket.create_connection(proxy.address, timeout=5) as client:
            client.sendall(b"hello")
            served, _ = listener.accept()
            with served:
                assert served.recv(10) == b"hello"


def test_nothing_is_left(server):
    """Its threads end with it, open connections included."""
    before = threading.active_count()
    with CuttingProxy(*server.server_address) as proxy, socket.create_connection(proxy.address) as client:
        client.sendall(b"x\n")
        assert client.makefile("rb").readline() == b"did x\n"
    for thread in threading.enumerate():
        if thread.name.startswith("Thread") and "process_request" in thread.name:
            thread.join(5)
    assert threading.active_count() <= before
