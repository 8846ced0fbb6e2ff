import pytest

from shared.pkcs12 import rc2


@pytest.mark.parametrize(
    ("key", "cipher", "plain"),
    [
        # RFC 2268 section 5, the vectors whose effective length is that of the key.
        ("ffffffffffffffff", "278b27e42e2f0d49", "ffffffffffffffff"),
        ("3000000000000000", "30649edf9be7d2c2", "1000000000000001"),
        ("88bca90e90875a7f0f79c384627bafb2", "2269552ab0f85ca6", "0000000000000000"),
    ],
)
def test_it_decrypts_the_rfc_s_vectors(key: str, cipher: str, plain: str) -> None:
    assert rc2.decrypt_cbc(bytes.fromhex(key), bytes(8), bytes.fromhex(cipher)).hex() == plain


def test_each_block_is_chained_to_the_one_before() -> None:
    key, block = bytes.fromhex("3000000000000000"), bytes.fromhex("30649edf9be7d2c2")
    plain = rc2.decrypt_cbc(key, b"\xff" * 8, block + block)
    alone = int.from_bytes(bytes.fromhex("1000000000000001"))
    assert int.from_bytes(plain[:8]) == alone ^ 2**64 - 1
    assert int.from_bytes(plain[8:]) == alone ^ int.from_bytes(block)
