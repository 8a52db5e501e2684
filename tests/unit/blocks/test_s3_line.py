"""The few lines that speak HTTP themselves: any division of the bytes reads the same, no answer is taken on trust."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as some
from urllib3.exceptions import InvalidHeader, ProtocolError, ReadTimeoutError

from blocks.s3.line import Reader, S3ConnectionPool, S3Response

HEAD = b'HTTP/1.1 200 OK\r\nETag: "x"\r\nx-amz-checksum-sha256:  abc= \r\n'
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5;why=x\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: y\r\n\r\n"
COUNTED = HEAD + b"Content-Length: 11\r\n\r\nhello world"
UNTIL_THE_END = HEAD + b"\r\nhello world"


class Origin:
    """A socket that gives what it has in pieces of these sizes."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        """Keep both."""
        self.data, self.sizes = data, sizes

    def recv(self, most: int) -> bytes:
        """The next piece; nothing at the end."""
        size = min(self.sizes.pop() if self.sizes else most, most)
        piece, self.data = self.data[:size], self.data[size:]
        return piece


def read(data: bytes, sizes: list[int]) -> tuple[int, dict[str, str], bytes, bytes]:
    reader = Reader(Origin(data, sizes))  # type: ignore[arg-type]  # all that it needs
    status, headers = reader.head()
    return status, dict(headers), reader.body(headers), reader.buffer


@given(
    data=some.sampled_from([CHUNKED, COUNTED, UNTIL_THE_END]),
    sizes=some.lists(some.integers(min_value=1, max_value=40), max_size=200),
)
def test_any_division_of_an_answer_reads_the_same(data: bytes, sizes: list[int]) -> None:
    status, headers, body, left = read(data, sizes)
    assert (status, body, left) == (200, b"hello world", b"")
    assert headers["x-amz-checksum-sha256"] == "abc="


@given(data=some.sampled_from([CHUNKED, COUNTED]), kept=some.integers(min_value=0, max_value=len(CHUNKED) - 1))
def test_an_answer_that_breaks_off_is_none(data: bytes, kept: int) -> None:
    with pytest.raises(ProtocolError):
        read(data[: min(kept, len(data) - 1)], [])


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 \xb200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_1\r\n\r\nhello world",
        b"HTTP/1.1 200 OK\r\nContent-Length: +11\r\n\r\nhello world",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0xb\r\nhello world\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0_b\r\nhello world\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 17),
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * ((1 << 24) + 1),
    ],
)
def test_what_is_no_answer_of_such_a_server_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(data, [])


@contextmanager
def server(serve: Callable[[socket.socket], object], seconds: float = 5) -> Iterator[S3ConnectionPool]:
    """Somebody who does this with each connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    taken, _ = listener.accept()
                except OSError:
                    return
                with taken:
                    serve(taken)

        Thread(target=accept, daemon=True).start()
        line = S3ConnectionPool("127.0.0.1", listener.getsockname()[1], timeout=seconds)
        yield line
        line.close()
        listener.shutdown(socket.SHUT_RDWR)


def asked(taken: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data and (piece := taken.recv(1000)):
        data += piece
    return data


def test_a_connection_is_kept_until_the_server_ends_it() -> None:
    connections, requests = list[int](), list[bytes]()

    def serve(taken: socket.socket) -> None:
        connections.append(1)
        for answer in (
            b"HTTP/1.1 100 Continue\r\n\r\n" + COUNTED,
            HEAD + b"Connection: close\r\nContent-Length: 0\r\n\r\n",
        ):
            requests.append(asked(taken))
            taken.sendall(answer)

    with server(serve) as line:
        answers = [line.ask("GET", "/a?b=c", {"Host": "x"}, b"") for _ in range(4)]
    assert [each.status for each in answers] == [200] * 4
    assert [each.body for each in answers] == [b"hello world", b""] * 2
    assert len(connections) == 2
    assert requests[0] == b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("name", ["a", "x-amz-security-token", "authorization"])
@pytest.mark.parametrize("end", ["\r\nEvil: 1", "\n", "\r", "\0", "\u2028"])
def test_a_header_that_would_begin_another_is_not_sent(name: str, end: str) -> None:
    requests = list[bytes]()

    def serve(taken: socket.socket) -> None:
        requests.append(asked(taken))
        taken.sendall(COUNTED)

    with server(serve) as line:
        with pytest.raises(InvalidHeader, match=name) as refused:
            line.ask("GET", "/", {"Host": "x", name: f"secret{end}"}, b"")
        assert "secret" not in str(refused.value)
        assert line.ask("GET", "/", {"Host": "x"}, b"").status == 200
    assert b"".join(requests) == b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def test_the_answer_to_a_head_has_no_body_whatever_its_length_says() -> None:
    def serve(taken: socket.socket) -> None:
        while asked(taken):
            taken.sendall(HEAD + b"Content-Length: 34000\r\n\r\n")

    with server(serve) as line:
        answers = [line.ask("HEAD", "/", {"Host": "x"}, b"") for _ in range(2)]
    assert answers[0] == answers[1]
    assert isinstance(answers[0], S3Response)
    assert answers[0].headers["content-length"] == "34000"


@pytest.mark.slow
def test_a_lost_connection_and_one_that_is_silent_are_told_apart_and_neither_is_used_again() -> None:
    acts = iter(["lose", "be silent", "answer"])

    def serve(taken: socket.socket) -> None:
        act = next(acts)
        if act != "lose":
            asked(taken)
        if act == "answer":
            taken.sendall(COUNTED)
        elif act == "be silent":
            taken.recv(1)

    with server(serve, seconds=0.5) as line:
        for kind in (ProtocolError, ReadTimeoutError):
            with pytest.raises(kind):
                line.ask("GET", "/", {"Host": "x"}, b"")
        assert line.ask("GET", "/", {"Host": "x"}, b"").body == b"hello world"
