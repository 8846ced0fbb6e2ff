"""What of a request and of an answer passes the reverse proxy."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instance_agent.targets.embedded.forwarding import Direct, Inquiry, Received, inquiry, response_headers
from instance_agent.targets.embedded.served import Served

HOST = "shop.example.com"
SERVED = Served(host=HOST, fingerprint_sha256="00", names=(HOST, "*.other.example"))

OURS = {
    *(
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ),
    *("expect", "x-real-ip", "x-forwarded-port", "x-forwarded-server"),
}


def received(*fields: tuple[str, str], host: str = HOST, **head: Any) -> Received:
    named = ((b"Host", host.encode("latin-1")),) if host else ()
    defaults: dict[str, Any] = {"method": "GET", "target": "/", "version": (1, 1), "peer": "192.0.2.7"}
    raw = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in fields)
    return Received(fields=named + raw, **(defaults | head))


def passed(*fields: tuple[str, str], **head: Any) -> Inquiry:
    judged = inquiry(received(*fields, **head), SERVED)
    assert isinstance(judged, Inquiry), judged
    return judged


def refused(*fields: tuple[str, str], **head: Any) -> HTTPStatus:
    judged = inquiry(received(*fields, **head), SERVED)
    assert isinstance(judged, Direct), judged
    return judged.status


def test_fields_of_one_hop_end_here_with_those_that_connection_names() -> None:
    fields = passed(
        ("Connection", "close, X-Mine"),
        ("X-Mine", "1"),
        ("Keep-Alive", "5"),
        ("TE", "trailers"),
        ("Trailer", "X"),
        ("Proxy-Authorization", "Basic x"),
        ("Upgrade", "h2c"),
        ("Authorization", "Bearer x"),
        ("Accept", "a"),
        ("Accept", "b"),
    ).headers
    assert fields.getall("Accept") == ["a", "b"]
    assert set(fields) == {
        *("Accept", "Authorization", "Host", "Via"),
        *("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded"),
    }


@pytest.mark.parametrize(
    "named", ["Host", "X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "Via", "Content-Length"]
)
def test_connection_can_name_none_of_what_is_ours_to_say(named: str) -> None:
    fields = passed(("Connection", named), ("Content-Length", "3"), method="POST").headers
    assert named in fields


@pytest.mark.parametrize(
    "name",
    [
        *(
            "X-Forwarded-For",
            "x-forwarded-for",
            "X_Forwarded_For",
            "X-Forwarded_Host",
            "X-Forwarded-Port",
            "X-Forwarded",
        ),
        *("Forwarded", "X-Real-IP", "X_Real_Ip", "X-Client-IP", "True-Client-IP"),
    ],
)
def test_a_client_cannot_say_where_it_comes_from(name: str) -> None:
    assert "6.6.6.6" not in passed((name, "6.6.6.6")).headers.values()


@pytest.mark.parametrize(
    ("peer", "plain", "standard"),
    [
        ("192.0.2.7", "192.0.2.7", 'for="192.0.2.7";'),
        ("2001:db8::7", "2001:db8::7", 'for="[2001:db8::7]";'),
        ("::ffff:192.0.2.7", "192.0.2.7", 'for="192.0.2.7";'),
        ("fe80::1%eth0", "fe80::1", 'for="[fe80::1]";'),
        ("", None, ""),
    ],
)
def test_the_clients_address_is_said_in_both_ways(peer: str, plain: str | None, standard: str) -> None:
    fields = passed(peer=peer).headers
    assert fields.get("X-Forwarded-For") == plain
    assert fields["Forwarded"] == f'{standard}host="{HOST}";proto=https'


def test_via_tells_the_way_so_far_and_this_hop() -> None:
    assert (
        passed(("Via", "1.0 fred, 1.1 p.example"), version=(1, 0)).headers["Via"]
        == "1.0 fred, 1.1 p.example, 1.0 certcast"
    )


@pytest.mark.parametrize(
    ("fields", "method", "version", "fine"),
    [
        ([("Content-Length", "5")], "POST", (1, 1), True),
        ([("Transfer-Encoding", "Chunked")], "POST", (1, 1), True),
        ([("Content-Length", "5"), ("Transfer-Encoding", "chunked")], "POST", (1, 1), False),
        ([("Content-Length", "5"), ("Content-Length", "5")], "POST", (1, 1), False),
        ([("Content-Length", "5, 5")], "POST", (1, 1), False),
        ([("Content-Length", "")], "POST", (1, 1), False),
        ([("Content-Length", "+5")], "POST", (1, 1), False),
        ([("Content-Length", "\xb2")], "POST", (1, 1), False),
        ([("Transfer-Encoding", "gzip, chunked")], "POST", (1, 1), False),
        ([("Transfer-Encoding", "identity")], "POST", (1, 1), False),
        ([("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")], "POST", (1, 1), False),
        ([("Transfer-Encoding", "chunked")], "POST", (1, 0), False),
    ],
)
def test_only_framing_that_nobody_can_misread_passes(
    fields: list[tuple[str, str]], method: str, version: tuple[int, int], fine: Any
) -> None:
    judged = inquiry(received(*fields, method=method, version=version), SERVED)
    assert isinstance(judged, Inquiry) if fine else judged == Direct(status=HTTPStatus.BAD_REQUEST)


def test_a_body_keeps_its_length_and_chunks_are_made_anew() -> None:
    told = passed(("Content-Length", "5"), method="POST")
    assert (told.has_body, told.headers["Content-Length"]) == (True, "5")
    untold = passed(("Transfer-Encoding", "chunked"), method="POST")
    assert untold.has_body
    assert not {"Content-Length", "Transfer-Encoding"} & set(untold.headers)
    assert not passed(("Content-Length", "0"), method="POST").has_body


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("a.b.other.example", HTTPStatus.MISDIRECTED_REQUEST),
        ("other.example", HTTPStatus.MISDIRECTED_REQUEST),
        ("*.other.example", HTTPStatus.BAD_REQUEST),
        ("192.0.2.1", HTTPStatus.MISDIRECTED_REQUEST),
        ("[2001:db8::1]:443", HTTPStatus.MISDIRECTED_REQUEST),
        ("shop.example.com:x", HTTPStatus.BAD_REQUEST),
        ("shop.example.com/x", HTTPStatus.BAD_REQUEST),
        ("user@shop.example.com", HTTPStatus.BAD_REQUEST),
        ("shop.example.com, shop.example.com", HTTPStatus.BAD_REQUEST),
        ("b\xfccher.example", HTTPStatus.BAD_REQUEST),
    ],
)
def test_a_host_that_the_certificate_is_not_for_is_misdirected_and_one_that_is_none_is_bad(
    host: str, status: HTTPStatus
) -> None:
    assert refused(host=host) == status


def test_without_a_host_only_http_1_0_passes_as_the_server_name() -> None:
    assert refused(host="") == HTTPStatus.BAD_REQUEST
    assert passed(host="", version=(1, 0)).headers["Host"] == HOST
    assert refused(("Host", HOST)) == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    ("target", "method", "sent"),
    [
        ("/", "GET", "/"),
        ("//evil.example/x", "GET", "//evil.example/x"),
        ("/%00/../a?b=/c://d", "GET", "/%00/../a?b=/c://d"),
        (f"https://{HOST}", "GET", "/"),
        (f"HTTPS://{HOST}?x", "GET", "/?x"),
        (f"https://{HOST}/a?b", "GET", "/a?b"),
    ],
)
def test_a_target_is_passed_on_in_origin_form_and_otherwise_untouched(target: str, method: str, sent: str) -> None:
    assert passed(target=target, method=method).target == sent


@pytest.mark.parametrize(
    "target", ["/a b", "/a#b", "/\x7f", "/\xe9", "/\ud800", "", "*", "shop.example.com:443", "ftp://x/"]
)
def test_a_target_that_is_none_is_bad(target: str) -> None:
    assert refused(target=target) == HTTPStatus.BAD_REQUEST


def test_100_is_expected_for_a_body_and_nothing_else_can_be() -> None:
    expecting = ("Expect", "100-Continue")
    assert passed(expecting, ("Content-Length", "3"), method="POST").expects_continue
    assert not passed(expecting).expects_continue
    assert not passed(expecting, ("Content-Length", "3"), method="POST", version=(1, 0)).expects_continue
    assert refused(("Expect", "miracles")) == HTTPStatus.EXPECTATION_FAILED


def test_a_websocket_is_asked_for_with_get_and_without_a_body() -> None:
    asking = (("Connection", "keep-alive, Upgrade"), ("Upgrade", "WebSocket"), ("Sec-WebSocket-Key", "x"))
    judged = passed(*asking)
    assert judged.upgrades
    assert (judged.headers["Connection"], judged.headers["Upgrade"]) == ("Upgrade", "websocket")
    assert judged.headers["Sec-WebSocket-Key"] == "x"
    assert refused(*asking, method="POST") == HTTPStatus.BAD_REQUEST
    assert refused(*asking, ("Content-Length", "1")) == HTTPStatus.BAD_REQUEST
    assert not passed(("Upgrade", "websocket")).upgrades


def test_what_an_answer_says_about_its_own_hop_ends_here() -> None:
    raw = [
        ("Connection", "X-Hop"),
        ("X-Hop", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "7"),
        ("ETag", "x"),
    ]
    fields = response_headers(tuple((name.encode(), value.encode()) for name, value in raw), switches=False)
    assert list(fields.items()) == [("ETag", "x")]
    assert response_headers(((b"Content-Length", b"7"),), switches=False)["Content-Length"] == "7"


def test_an_answer_whose_field_could_begin_another_is_refused() -> None:
    with pytest.raises(ValueError, match="control"):
        response_headers(((b"X", b"a\rSet-Cookie: b"),), switches=False)


@given(
    fields=st.lists(
        st.tuples(
            st.sampled_from(sorted(OURS | {"cookie", "accept", "x-mine", "via"})),
            st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20),
        ),
        max_size=12,
    )
)
def test_whatever_a_client_sends_no_field_of_its_hop_and_one_host_reach_the_upstream(
    fields: list[tuple[str, str]],
) -> None:
    judged = inquiry(received(*fields), SERVED)
    if isinstance(judged, Direct):
        return
    names = [name.lower() for name in judged.headers]
    assert not (OURS - {"connection", "upgrade"}) & set(names)
    assert judged.upgrades or not {"connection", "upgrade"} & set(names)
    for single in ("host", "forwarded", "x-forwarded-for", "x-forwarded-proto", "via"):
        assert names.count(single) == 1
