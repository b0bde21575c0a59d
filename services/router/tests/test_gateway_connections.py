"""The transport under the gateway, against servers that answer byte by byte what a test says."""

from __future__ import annotations

import asyncio
import contextlib

import httpx
import pytest

from flywheel.testkit.provider_server import unused_port
from flywheel_router.gateway.connections import Connections, head_of, origin_of, request_of


@contextlib.asynccontextmanager
async def server(*answers):
    """A server that gives the first answer to the first request and so on, in pieces; None hangs up instead."""
    made, connections = list(answers), []

    async def serve(reader, writer):
        connections.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                pieces = made.pop(0)
                for piece in pieces:
                    if piece is None:
                        writer.close()
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.005)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    transport = Connections()
    try:
        yield transport, f"http://127.0.0.1:{port}/v1/x?y=1", connections
    finally:
        transport.close()
        listening.close()


async def send(transport, url):
    """An answer whose head has come."""
    parsed = httpx.URL(url)
    return await transport.send(origin_of(parsed), request_of(head_of(parsed, [("x-b", "c")]), b"{}"))


async def post(transport, url):
    """Status, a header and the body of an answer."""
    reply = await send(transport, url)
    try:
        return reply.status, reply.header(b"x-a"), b"".join([part async for part in reply.body()])
    finally:
        reply.close()


PLAIN = [b"HTTP/1.1 200 OK\r\ncontent-le", b"ngth: 4\r\nX-A: b\r\n\r\nab", b"cd"]
CHUNKED = [b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab", b"c\r\n1\r\nd\r\n", b"0\r\n\r\n"]
CONTINUED = [b"HTTP/1.1 100 Continue\r\n\r\n", *PLAIN]


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED, CONTINUED])
async def test_an_answer_in_pieces_is_whole_and_the_connection_is_used_again(answer):
    async with server(answer, answer, PLAIN) as (transport, url, connections):
        for _ in range(2):
            status, _, body = await post(transport, url)
            assert (status, body) == (201 if answer is CHUNKED else 200, b"abcd")
        assert (await post(transport, url))[1] == b"b"
        assert len(connections) == 1


async def test_an_answer_without_a_length_ends_with_its_connection():
    ends = [b"HTTP/1.1 200 OK\r\n\r\nab", b"cd", None]
    async with server(ends, PLAIN) as (transport, url, connections):
        assert (await post(transport, url))[2] == b"abcd"
        assert (await post(transport, url))[2] == b"abcd"
        assert len(connections) == 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ([None], httpx.ReadError),
        ([b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab", None], httpx.ReadError),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab", None], httpx.ReadError),
        ([b"SMTP ready\r\n"], httpx.RemoteProtocolError),
        ([b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n"], httpx.RemoteProtocolError),
    ],
)
async def test_what_is_cut_off_or_no_http_is_an_error_and_the_next_request_works(answer, error):
    async with server(answer, PLAIN) as (transport, url, _):
        with pytest.raises(error):
            await post(transport, url)
        assert (await post(transport, url))[2] == b"abcd"


async def test_a_body_that_is_let_go_of_breaks_its_connection():
    async with server([*PLAIN[:2]], PLAIN) as (transport, url, connections):
        reply = await send(transport, url)
        reply.close()
        reply.close()
        assert (await post(transport, url))[2] == b"abcd" and len(connections) == 2


async def test_a_body_that_came_and_was_not_read_is_not_the_next_answers():
    async with server([b"HTTP/1.1 500 No\r\ncontent-length: 3\r\n\r\nold"], PLAIN) as (transport, url, connections):
        reply = await send(transport, url)
        (connection,) = transport._used
        async with asyncio.timeout(10):
            while not connection.complete:
                await asyncio.sleep(0.001)
        reply.close()
        assert (await post(transport, url))[2] == b"abcd" and len(connections) == 2


async def test_an_answer_that_is_closed_again_leaves_the_next_one_on_its_connection_alone():
    async with server(PLAIN, PLAIN) as (transport, url, connections):
        first = await send(transport, url)
        assert b"".join([part async for part in first.body()]) == b"abcd"
        first.close()
        second = await send(transport, url)
        first.close()
        assert b"".join([part async for part in second.body()]) == b"abcd" and len(connections) == 1
        second.close()


async def test_a_request_that_is_cancelled_breaks_its_connection():
    async with server([b""], PLAIN) as (transport, url, connections):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await post(transport, url)
        assert (await post(transport, url))[2] == b"abcd" and len(connections) == 2


async def test_a_long_answer_waits_for_its_reader():
    body = b"z" * (8 << 20)
    async with server([b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body), body]) as (transport, url, _):
        reply = await send(transport, url)
        await asyncio.sleep(0.2)
        (connection,) = transport._used
        assert connection._buffered < 4 << 20, "reading paused"
        assert sum([len(part) async for part in reply.body()]) == len(body)
        reply.close()


async def test_where_nothing_listens_there_is_no_connection():
    transport = Connections()
    async with unused_port() as port:
        with pytest.raises(httpx.ConnectError):
            await post(transport, f"http://127.0.0.1:{port}/")
    with pytest.raises(httpx.LocalProtocolError):
        head_of(httpx.URL("http://127.0.0.1/v1"), [("x", "a\r\nb: c")])
    transport.close()
