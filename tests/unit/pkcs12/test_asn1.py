import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pkcs12.asn1 import INTEGER, OCTET_STRING, OID, SATURATED, SEQUENCE, Asn1Error, Element, read
from tests.rigs.handmade_pfx import indefinite, integer, octets, oid, sequence, tlv


@given(st.binary(max_size=400))
def test_random_bytes_are_read_or_refused_and_nothing_else(data: bytes) -> None:
    try:
        element = read(data)
        element.children()
        element.octets()
    except Asn1Error:
        pass


@given(st.integers(min_value=1, max_value=2**63 - 1))
def test_a_count_reads_as_it_was_written(value: int) -> None:
    assert read(integer(value)).count() == value


@pytest.mark.parametrize("bits", [63, 64, 80_000])
def test_absurd_counts_are_the_largest_there_is(bits: int) -> None:
    assert read(integer(2**bits)).count() == SATURATED


@pytest.mark.parametrize("value", [0, -1, -(2**70)])
def test_a_count_that_is_not_positive_is_refused(value: int) -> None:
    with pytest.raises(Asn1Error, match="not positive"):
        read(integer(value)).count()


@pytest.mark.parametrize("dotted", ["1.2.840.113549.1.7.1", "0.9.2342", "2.999.3", "2.16.840.1.101.3.4.1.42"])
def test_object_identifiers_read_as_they_were_written(dotted: str) -> None:
    assert read(oid(dotted)).oid() == dotted


@pytest.mark.parametrize("content", [b"", b"\x2a\x86", b"\x2a" * 65])
def test_broken_object_identifiers_are_refused(content: bytes) -> None:
    with pytest.raises(Asn1Error, match="object identifier"):
        read(tlv(OID, content)).oid()


def test_an_octet_string_in_pieces_is_joined() -> None:
    assert read(indefinite(0x24, octets(b"ab"), octets(b"cd"))).octets() == b"abcd"
    assert read(tlv(0xA0, octets(b"ab"), octets(b"cd"))).octets(0x80) == b"abcd"


def test_indefinite_values_may_be_nested() -> None:
    data = indefinite(SEQUENCE, indefinite(SEQUENCE, integer(5)), integer(6))
    first, second = read(data + b"what follows").children(SEQUENCE, INTEGER)
    assert first.children()[0].count() == 5
    assert second.count() == 6


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "in the middle"),
        (b"\x30", "in the middle"),
        (b"\x30\x05\x02", "in the middle"),
        (b"\x30\x82\xff", "in the middle"),
        (b"\x30\x85\x01\x00\x00\x00\x00", "absurd length"),
        (b"\x04\x80ab\x00\x00", "without a length"),
        (b"\x30\x80\x02\x01\x05", "in the middle"),
        (b"\x1f\x01\x00", "unknown type"),
        (b"\x30\x80" * 40 + b"\x00\x00" * 40, "too deeply"),
        (b"\x30\x80" + b"\x05\x00" * 10_001 + b"\x00\x00", "more than 10000"),
    ],
)
def test_malformed_values_are_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Asn1Error, match=reason):
        read(data)


def test_a_container_of_too_many_values_is_refused() -> None:
    with pytest.raises(Asn1Error, match="more than 10000"):
        read(sequence(b"\x05\x00" * 10_001)).children()


def test_children_of_other_types_or_number_are_refused() -> None:
    with pytest.raises(Asn1Error, match="missing"):
        read(sequence(integer(1))).children(INTEGER, OCTET_STRING)
    with pytest.raises(Asn1Error, match="0x02 where 0x04"):
        read(sequence(integer(1))).children(OCTET_STRING)


def test_an_element_does_not_show_its_content() -> None:
    assert "secret" not in repr(Element(OCTET_STRING, b"secret"))
