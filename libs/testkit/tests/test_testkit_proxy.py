"""The fault proxy over real sockets: each rule does what it says, and nothing else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from flywheel.testkit.proxy import FaultProxy
from flywheel.testkit.rules import PASS, Rules

SHORT_S = 0.3


class Echo:
    """Answers each chunk with the same bytes, and keeps what it was sent."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.got = bytearray()
        self.grew = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while data := connection.recv(65_536):
                with self.grew:
                    self.got += data
                    self.grew.notify_all()
                connection.sendall(data)

    def wait_for(self, data: bytes) -> bool:
        with self.grew:
            return self.grew.wait_for(lambda: data in self.got, 10)

    def close(self) -> None:
        with suppress(OSError):  # closed by the test already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    with closing(Echo()) as running:
        yield running


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy(echo.port) as running:
        yield running


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), 10)


def ask(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return receive(connection, len(data))


def receive(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count and (data := connection.recv(count - len(found))):
        found += data
    return found


def hears_nothing(connection: socket.socket) -> bool:
    before = connection.gettimeout()
    connection.settimeout(SHORT_S)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(before)
    return False


def test_it_forwards_both_ways_and_counts_connections(proxy: FaultProxy) -> None:
    large = bytes(range(256)) * 4_000
    with connect(proxy) as one, connect(proxy) as other:
        assert ask(one, b"hello") == b"hello"
        sender = threading.Thread(target=other.sendall, args=(large,))
        sender.start()
        assert receive(other, len(large)) == large
        sender.join()
        assert (proxy.seen.connections, proxy.open_connections) == (2, 2)


def test_a_reply_held_comes_when_the_rule_is_gone(proxy: FaultProxy, echo: Echo) -> None:
    with connect(proxy) as connection:
        assert ask(connection, b"first") == b"first"
        proxy.set(Rules(hold_replies=True))
        connection.sendall(b"second")
        assert echo.wait_for(b"second"), "requests still go through"
        assert hears_nothing(connection)
        proxy.clear()
        assert receive(connection, 6) == b"second"


def test_a_request_held_does_not_arrive_until_the_rule_is_gone(proxy: FaultProxy, echo: Echo) -> None:
    with connect(proxy) as connection:
        assert ask(connection, b"first") == b"first"
        proxy.set(Rules(hold_requests=True))
        connection.sendall(b"second")
        assert hears_nothing(connection)
        assert b"second" not in echo.got
        proxy.set(PASS)
        assert receive(connection, 6) == b"second"


def test_a_delay_holds_back_for_a_while_and_loses_nothing(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        proxy.set(Rules(delay_requests_s=SHORT_S, delay_replies_s=SHORT_S))
        connection.sendall(b"late")
        assert hears_nothing(connection), "two delays are longer than one"
        assert receive(connection, 4) == b"late"


def test_a_cut_resets_what_is_open_and_leaves_the_door_open(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        assert ask(connection, b"first") == b"first"
        assert proxy.cut() == 1
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with connect(proxy) as another:
        assert ask(another, b"again") == b"again"


def test_while_it_refuses_nobody_gets_in_and_who_is_in_stays(proxy: FaultProxy) -> None:
    with connect(proxy) as inside:
        assert ask(inside, b"first") == b"first"
        proxy.set(Rules(refuse=True))
        with pytest.raises(ConnectionResetError), connect(proxy) as outside:
            ask(outside, b"hello")
        assert ask(inside, b"still") == b"still"
        assert proxy.seen.refused == 1
    proxy.clear()
    with connect(proxy) as connection:
        assert ask(connection, b"again") == b"again"


def test_a_reply_dropped_after_the_write_the_target_has_it_the_client_is_cut(proxy: FaultProxy, echo: Echo) -> None:
    proxy.drop_replies(1, lambda data: data.startswith(b"write"))
    with connect(proxy) as connection:
        assert ask(connection, b"read") == b"read", "not a request of that kind"
        connection.sendall(b"write")
        with pytest.raises(ConnectionResetError):
            receive(connection, 5)
    assert echo.wait_for(b"write")
    assert proxy.seen.dropped_replies == 1
    with connect(proxy) as connection:
        assert ask(connection, b"write") == b"write", "the rule was for one"


def test_what_is_blocked_never_arrives_and_the_rest_does(proxy: FaultProxy, echo: Echo) -> None:
    proxy.block(lambda data: data.startswith(b"write"))
    for _ in range(2):
        with connect(proxy) as connection:
            assert ask(connection, b"read") == b"read"
            connection.sendall(b"write")
            with pytest.raises(ConnectionResetError):
                receive(connection, 5)
    assert (proxy.seen.blocked, b"write" in echo.got) == (2, False)
    proxy.clear()
    with connect(proxy) as connection:
        assert ask(connection, b"write") == b"write"


def test_a_request_that_comes_in_pieces_is_judged_as_a_whole(echo: Echo) -> None:
    def framed(body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + body

    with FaultProxy(echo.port, framed=True) as proxy, connect(proxy) as connection, connect(proxy) as other:
        long = framed(b"x" * 200_000)
        assert ask(connection, long) == long
        proxy.block(lambda data: b"secret" in data)
        assert ask(other, framed(b"open")) == framed(b"open")
        connection.sendall(framed(b"x" * 200_000 + b"secret")[:100_000])
        assert hears_nothing(connection), "half a request is no request"
        with suppress(OSError):
            connection.sendall((b"x" * 200_000 + b"secret")[99_996:])
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        assert proxy.seen.blocked == 1 and b"secret" not in echo.got


def test_a_target_that_is_away_resets_the_client(proxy: FaultProxy, echo: Echo) -> None:
    echo.close()
    with pytest.raises(ConnectionResetError), connect(proxy) as connection:
        ask(connection, b"hello")


def test_when_the_target_hangs_up_so_does_the_proxy(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        assert ask(connection, b"hello") == b"hello"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def test_stopping_cuts_what_is_open_and_frees_the_port(echo: Echo) -> None:
    proxy = FaultProxy(echo.port).start()
    with connect(proxy) as connection:
        assert ask(connection, b"hello") == b"hello"
        proxy.stop()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)


@pytest.mark.parametrize("delay_s", [-1.0, float("nan")])
def test_a_delay_that_makes_no_sense_is_named(delay_s: float) -> None:
    with pytest.raises(ValueError, match="delay_replies_s: must not be negative"):
        Rules(delay_replies_s=delay_s)
