"""What the embedded listener answers to which request, as bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instance_agent.targets.embedded.page import page
from instance_agent.targets.parts import small_http

PAGE = page("shop.example.com", "ab" * 32)


def answer_to(head: bytes) -> tuple[bytes, bool]:
    return small_http.answer_to(head, lambda _: PAGE)


def parts(answer: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    return status, dict(line.split(b": ", 1) for line in lines), body


def request(line: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([line, b"Host: shop.example.com", *fields, b"", b""])


def test_the_page_names_host_and_fingerprint() -> None:
    status, fields, body = parts(answer_to(request(b"GET / HTTP/1.1"))[0])
    assert status == b"HTTP/1.1 200 OK"
    assert b"<h1>shop.example.com</h1>" in body
    assert b"ab" * 32 in body
    assert fields[b"Content-Length"] == str(len(PAGE.body)).encode()
    assert fields[b"Content-Type"] == b"text/html; charset=utf-8"
    assert fields[b"Content-Security-Policy"] == b"default-src 'none'"
    assert fields[b"Date"].endswith(b" GMT")


def test_what_a_client_put_into_its_server_name_is_text() -> None:
    assert b"<h1>&lt;script&gt;&quot;</h1>" in page('<script>"', "00").body


def test_an_answer_to_head_is_that_to_get_without_its_body() -> None:
    of_get, of_head = (answer_to(request(method + b" / HTTP/1.1"))[0] for method in (b"GET", b"HEAD"))
    assert parts(of_head)[2] == b""
    assert parts(of_head)[1].keys() == parts(of_get)[1].keys()
    assert parts(of_head)[1][b"Content-Length"] == parts(of_get)[1][b"Content-Length"]


@pytest.mark.parametrize("method", [b"DELETE", b"OPTIONS", b"BREW", b"CONNECT"])
def test_other_methods_are_not_allowed(method: bytes) -> None:
    answer, stays = answer_to(request(method + b" / HTTP/1.1"))
    assert parts(answer)[0] == b"HTTP/1.1 405 Method Not Allowed"
    assert parts(answer)[1][b"Allow"] == b"GET, HEAD"
    assert stays


@pytest.mark.parametrize(
    ("line", "fields", "connection"),
    [
        (b"GET / HTTP/1.1", (), b"keep-alive"),
        (b"GET / HTTP/1.0", (), b"close"),
        (b"GET / HTTP/1.0", (b"Connection: keep-alive",), b"close"),
        (b"GET / HTTP/1.1", (b"Connection: keep-alive",), b"keep-alive"),
        (b"GET / HTTP/1.1", (b"connection: Close",), b"close"),
        (b"GET / HTTP/1.1", (b"Connection: TE, close",), b"close"),
        (b"GET / HTTP/1.1", (b"X-Connection: close",), b"keep-alive"),
        (b"GET / HTTP/1.1", (b"Content-Length: 0",), b"keep-alive"),
        (b"POST / HTTP/1.1", (b"Content-Length:00 ",), b"keep-alive"),
        (b"POST / HTTP/1.1", (b"Content-Length: 10",), b"close"),
        (b"POST / HTTP/1.1", (b"Content-Length: 0, 5",), b"close"),
        (b"POST / HTTP/1.1", (b"Transfer-Encoding: chunked",), b"close"),
    ],
)
def test_a_connection_stays_as_long_as_the_next_request_can_be_found(
    line: bytes, fields: tuple[bytes, ...], connection: bytes
) -> None:
    answer, stays = answer_to(request(line, *fields))
    assert parts(answer)[1][b"Connection"] == connection
    assert stays == (connection == b"keep-alive")


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\r\n\r\n",
        b"GET /\r\n\r\n",
        b"get / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / x HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_request_is_answered_400_and_nothing_after_it_is_read(head: bytes) -> None:
    answer, stays = answer_to(head)
    assert parts(answer)[0] == b"HTTP/1.1 400 Bad Request"
    assert not stays


@given(st.binary())
def test_whatever_comes_has_one_whole_answer(head: bytes) -> None:
    status, fields, body = parts(answer_to(head)[0])
    assert status.startswith(b"HTTP/1.1 ")
    assert len(body) == int(fields[b"Content-Length"])
