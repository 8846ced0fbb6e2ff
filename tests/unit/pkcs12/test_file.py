import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives import serialization

from shared.pkcs12.asn1 import Asn1Error
from shared.pkcs12.file import Pkcs12, PublicKeyProtectedError
from shared.pkcs12.kdf import UnsupportedError
from shared.pkcs12.opening import Contents, TooExpensiveError, open_file
from shared.pkcs12.passwords import spellings
from shared.pkcs12.pbe import WrongPasswordError
from tests.rigs import handmade_pfx
from tests.rigs.certificates import Issued, authority
from tests.rigs.handmade_pfx import (
    AES256_CBC,
    DATA,
    ENVELOPED_DATA,
    HMAC_SHA256,
    KEY_BAG,
    PBE_3DES,
    PBES2,
    PBKDF2,
    PBMAC1,
    SAFE_CONTENTS_BAG,
    SCRYPT,
    SECRET_BAG,
    SHROUDED_KEY_BAG,
    SIGNED_DATA,
    bag,
    certificate_bag,
    claimed_mac,
    encrypted,
    encrypted_safe,
    explicit,
    indefinite,
    integer,
    key_bag,
    octets,
    oid,
    pbmac1,
    pfx,
    pkcs8,
    plain_safe,
    safe_of,
    sequence,
    shrouded_key_bag,
    tlv,
)

ENDLESS = 2**31 - 1
LIMIT = 5_000_000


@pytest.fixture(scope="module")
def issued() -> Issued:
    return authority().issue("www.example.com")


def opened(file: bytes, *passwords: str | None, limit: int = LIMIT) -> Contents:
    tried = [None if password is None else password.encode() for password in passwords or ("secret",)]
    return open_file(Pkcs12.parse(file), tried, max_cost=limit)


def der(issued: Issued) -> bytes:
    return issued.certificate.public_bytes(serialization.Encoding.DER)


def test_a_key_and_certificate_in_their_usual_places_are_found(issued: Issued) -> None:
    file = pfx(
        encrypted_safe("secret", certificate_bag(issued.certificate)),
        plain_safe(shrouded_key_bag(issued.key, "secret")),
    )
    assert opened(file) == Contents(keys=(pkcs8(issued.key),), certificates=(der(issued),))


def test_nothing_need_be_encrypted(issued: Issued) -> None:
    file = pfx(plain_safe(key_bag(issued.key), certificate_bag(issued.certificate)))
    assert opened(file, None) == Contents(keys=(pkcs8(issued.key),), certificates=(der(issued),))


def test_without_a_password_at_all_the_empty_one_is_tried(issued: Issued) -> None:
    file = pfx(encrypted_safe("", certificate_bag(issued.certificate)))
    assert open_file(Pkcs12.parse(file), [], max_cost=LIMIT).certificates == (der(issued),)


def test_a_key_inside_an_encrypted_safe_is_found(issued: Issued) -> None:
    file = pfx(encrypted_safe("secret", shrouded_key_bag(issued.key, "secret"), certificate_bag(issued.certificate)))
    assert opened(file).keys == (pkcs8(issued.key),)


@pytest.mark.timeout(20)
def test_a_hidden_key_with_an_endless_count_is_refused_before_it_is_derived(issued: Issued) -> None:
    hidden = shrouded_key_bag(issued.key, "secret", claimed=ENDLESS)
    file = pfx(encrypted_safe("secret", hidden, certificate_bag(issued.certificate)))
    with pytest.raises(TooExpensiveError) as refusal:
        opened(file)
    assert refusal.value.cost == (1000 + ENDLESS + 1) // 2


@pytest.mark.timeout(20)
def test_an_endless_count_is_refused_even_where_another_key_is_cheap(issued: Issued) -> None:
    hidden = shrouded_key_bag(issued.key, "secret", claimed=ENDLESS)
    file = pfx(plain_safe(shrouded_key_bag(issued.key, "secret")), encrypted_safe("secret", hidden))
    with pytest.raises(TooExpensiveError):
        opened(file)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("where", ["mac", "safe", "key", "pbmac1", "scrypt", "scrypt memory"])
def test_an_endless_count_in_sight_is_refused(issued: Issued, where: str) -> None:
    certificate = certificate_bag(issued.certificate)
    safes = [plain_safe(key_bag(issued.key), certificate)]
    file = {
        "mac": lambda: pfx(*safes, mac=claimed_mac(2**62)),
        "safe": lambda: pfx(encrypted_safe("secret", certificate, claimed=ENDLESS)),
        "key": lambda: pfx(plain_safe(shrouded_key_bag(issued.key, "secret", claimed=2**70_000), certificate)),
        "pbmac1": lambda: pfx(*safes, mac=pbmac1(safes, "secret").replace(integer(1000), integer(9_999))),
        "scrypt": lambda: pfx(plain_safe(shrouded_key_bag(issued.key, "secret", scrypt=(2**14, 8, 64)))),
        "scrypt memory": lambda: pfx(plain_safe(shrouded_key_bag(issued.key, "secret", scrypt=(2**20, 8, 1)))),
    }[where]()
    with pytest.raises(TooExpensiveError):
        opened(file, limit=4_000 if where == "pbmac1" else LIMIT)


def test_the_limit_is_on_all_layers_together(issued: Issued) -> None:
    file = pfx(
        encrypted_safe("secret", certificate_bag(issued.certificate)),
        plain_safe(shrouded_key_bag(issued.key, "secret")),
    )
    assert opened(file, limit=1000).keys  # two layers with 1,000 iterations each, which take half a step
    with pytest.raises(TooExpensiveError) as refusal:
        opened(file, limit=999)
    assert refusal.value.cost == 1000


def test_each_password_counts_where_no_mac_tells_which_fits(issued: Issued) -> None:
    file = pfx(encrypted_safe("secret", certificate_bag(issued.certificate)))
    assert opened(file, "wrong", "secret", limit=1000).certificates
    with pytest.raises(TooExpensiveError):
        opened(file, "wrong", "secret", limit=999)


def test_with_a_mac_each_password_costs_the_mac_only(issued: Issued) -> None:
    file = issued.pfx("secret", iterations=1500)
    assert opened(file, "wrong", "secret", limit=2 * 2048 + 1500).keys
    with pytest.raises(TooExpensiveError):
        opened(file, "wrong", "secret", limit=2 * 2048 + 1500 - 1)


def test_a_key_derived_by_scrypt_is_read(issued: Issued) -> None:
    file = pfx(plain_safe(shrouded_key_bag(issued.key, "secret", scrypt=(2**10, 8, 1))))
    assert opened(file).keys == (pkcs8(issued.key),)


def test_scrypt_with_numbers_that_are_none_does_not_decrypt(issued: Issued) -> None:
    file = pfx(
        plain_safe(shrouded_key_bag(issued.key, "secret", scrypt=(2**10, 8, 1)).replace(integer(1024), integer(1023)))
    )
    with pytest.raises(WrongPasswordError):
        opened(file)


def test_a_mac_after_rfc_9579_is_verified(issued: Issued) -> None:
    safes = [plain_safe(key_bag(issued.key), certificate_bag(issued.certificate))]
    file = pfx(*safes, mac=pbmac1(safes, "secret"))
    assert opened(file, "wrong", "secret").keys == (pkcs8(issued.key),)
    with pytest.raises(WrongPasswordError):
        opened(file, "wrong")


@pytest.mark.parametrize("key_bytes", [1, 19, 65, 70_000])
def test_a_mac_with_a_very_short_or_long_key_is_refused(issued: Issued, key_bytes: int) -> None:
    # Of a key of one octet, one password in 256 makes the same as any other.
    safes = [plain_safe(key_bag(issued.key))]
    mac = pbmac1(safes, "secret", key_bytes=key_bytes, iterations=1)
    with pytest.raises(Asn1Error, match=f"a key of {key_bytes} octets?, .* takes 20 to 64 "):
        opened(pfx(*safes, mac=mac))


@pytest.mark.parametrize("key_bytes", [20, 64])
def test_a_mac_with_a_key_of_the_shortest_and_the_longest_is_read(issued: Issued, key_bytes: int) -> None:
    safes = [plain_safe(key_bag(issued.key))]
    assert opened(pfx(*safes, mac=pbmac1(safes, "secret", key_bytes=key_bytes))).keys


def test_a_mac_that_does_not_say_how_long_its_key_is_is_refused(issued: Issued) -> None:
    prf = sequence(oid(HMAC_SHA256), tlv(0x05))
    for derivation in (
        sequence(oid(PBKDF2), sequence(octets(b"salt"), integer(1), prf)),
        sequence(oid(SCRYPT), sequence(octets(b"salt"), integer(16), integer(32), integer(1))),
    ):
        algorithm = sequence(oid(PBMAC1), sequence(derivation, prf))
        mac = sequence(sequence(algorithm, octets(bytes(32))), octets(b""), integer(1))
        with pytest.raises(Asn1Error, match="does not say how long"):
            opened(pfx(plain_safe(key_bag(issued.key)), mac=mac))


def test_a_mac_keyed_by_scrypt_takes_the_length_from_its_place(issued: Issued) -> None:
    safes = [plain_safe(key_bag(issued.key))]
    key = hashlib.scrypt(b"secret", salt=b"salt", n=16, r=1, p=1, dklen=32)
    derivation = sequence(oid(SCRYPT), sequence(octets(b"salt"), integer(16), integer(1), integer(1), integer(32)))
    algorithm = sequence(oid(PBMAC1), sequence(derivation, sequence(oid(HMAC_SHA256), tlv(0x05))))
    mac = sequence(sequence(algorithm, octets(hmac.digest(key, sequence(*safes), "sha256"))), octets(b""), integer(1))
    assert opened(pfx(*safes, mac=mac)).keys


def test_a_mac_without_a_count_means_one_iteration(issued: Issued) -> None:
    count = integer(4096)
    mac = claimed_mac(4096)
    file = pfx(plain_safe(key_bag(issued.key)), mac=sequence(mac.removesuffix(count)[2:]))
    assert Pkcs12.parse(file).mac is not None
    with pytest.raises(WrongPasswordError):
        opened(file, "secret", limit=1)


def test_two_passwords_in_one_file_do_not_open_it(issued: Issued) -> None:
    safes = [encrypted_safe("other", certificate_bag(issued.certificate))]
    with pytest.raises(WrongPasswordError):
        opened(pfx(*safes, mac=pbmac1(safes, "secret")))


def test_noise_that_unpads_by_chance_is_a_wrong_password() -> None:
    algorithm, data = encrypted(b"no safe contents", "secret")
    with pytest.raises(WrongPasswordError):
        opened(pfx(safe_of(algorithm, tlv(0x80, data))))


def test_a_key_that_unpads_to_noise_by_chance_is_a_wrong_password() -> None:
    algorithm, data = encrypted(b"no private key", "secret")
    with pytest.raises(WrongPasswordError):
        opened(pfx(plain_safe(bag(SHROUDED_KEY_BAG, sequence(algorithm, octets(data))))))


def test_noise_under_a_verified_mac_is_damage_and_named() -> None:
    algorithm, data = encrypted(b"no safe contents", "secret")
    safes = [safe_of(algorithm, tlv(0x80, data))]
    with pytest.raises(Asn1Error, match="in the middle"):
        opened(pfx(*safes, mac=pbmac1(safes, "secret")))


@pytest.mark.parametrize("data", [b"", b"fifteen octets."])
def test_a_ciphertext_that_is_no_whole_blocks_does_not_decrypt(data: bytes) -> None:
    algorithm, _ = encrypted(b"", "secret")
    with pytest.raises(WrongPasswordError):
        opened(pfx(safe_of(algorithm, tlv(0x80, data))))


def test_ber_in_pieces_and_of_indefinite_length_is_read(issued: Issued) -> None:
    bags = sequence(key_bag(issued.key), certificate_bag(issued.certificate))
    safes = indefinite(
        0x30, indefinite(0x30, oid(DATA), indefinite(0xA0, indefinite(0x24, octets(bags[:99]), octets(bags[99:]))))
    )
    file = indefinite(
        0x30,
        integer(3),
        indefinite(0x30, oid(DATA), indefinite(0xA0, indefinite(0x24, octets(safes[:50]), octets(safes[50:])))),
    )
    assert opened(file) == Contents(keys=(pkcs8(issued.key),), certificates=(der(issued),))


def test_an_encrypted_safe_in_pieces_is_read(issued: Issued) -> None:
    algorithm, data = encrypted(sequence(certificate_bag(issued.certificate)), "secret")
    file = pfx(safe_of(algorithm, indefinite(0xA0, octets(data[:33]), octets(data[33:]))))
    assert opened(file).certificates == (der(issued),)


def test_safes_within_safes_are_read_to_a_depth(issued: Issued) -> None:
    nested = key_bag(issued.key)
    for _ in range(4):
        nested = bag(SAFE_CONTENTS_BAG, sequence(nested))
    assert opened(pfx(plain_safe(nested))).keys == (pkcs8(issued.key),)
    with pytest.raises(Asn1Error, match="nested too deeply"):
        opened(pfx(plain_safe(bag(SAFE_CONTENTS_BAG, sequence(nested)))))


def test_bags_of_other_kinds_are_passed_over(issued: Issued) -> None:
    secret = bag(SECRET_BAG, sequence(oid(KEY_BAG), explicit(octets(b"x"))))
    sdsi = bag("1.2.840.113549.1.12.10.1.3", sequence(oid("1.2.840.113549.1.9.22.2"), explicit(octets(b"x"))))
    assert opened(pfx(plain_safe(secret, sdsi, key_bag(issued.key)))) == Contents(
        keys=(pkcs8(issued.key),), certificates=()
    )


def test_a_file_of_many_keys_or_certificates_is_refused(issued: Issued) -> None:
    with pytest.raises(Asn1Error, match="more than 16 private keys"):
        opened(pfx(plain_safe(*[key_bag(issued.key)] * 17)))
    with pytest.raises(Asn1Error, match="more than 256 certificates"):
        opened(pfx(plain_safe(*[certificate_bag(issued.certificate)] * 257)))


@pytest.mark.parametrize("kind", [SIGNED_DATA, ENVELOPED_DATA])
def test_a_file_protected_by_public_keys_is_refused(kind: str) -> None:
    safe = sequence(oid(kind), explicit(sequence()))
    with pytest.raises(PublicKeyProtectedError, match="and not"):
        opened(pfx(safe))
    with pytest.raises(PublicKeyProtectedError, match="and not"):
        opened(sequence(integer(3), safe))


def algorithm_with(derivation: bytes, cipher: bytes) -> bytes:
    return sequence(oid(PBES2), sequence(derivation, cipher))


PRF = sequence(oid(HMAC_SHA256))
DERIVATION = sequence(oid(PBKDF2), sequence(octets(b"salt"), integer(1), PRF))
CIPHER = sequence(oid(AES256_CBC), octets(bytes(16)))


@pytest.mark.parametrize(
    ("algorithm", "reason"),
    [
        (sequence(oid("1.2.840.113549.1.5.3")), r"encrypted by MD5 and DES \(PBES1\) \(1.2.840.113549.1.5.3\)"),
        (algorithm_with(sequence(oid("1.2.3")), CIPHER), r"derives a key by .* not known \(1.2.3\)"),
        (algorithm_with(DERIVATION, sequence(oid("1.2.4"))), r"encrypted by .* not known \(1.2.4\)"),
        (
            algorithm_with(DERIVATION.replace(oid(HMAC_SHA256), oid("1.2.840.113549.2.12")), CIPHER),
            r"derives a key by HMAC with SHA-512/224 \(1.2.840.113549.2.12\)",
        ),
    ],
)
def test_algorithms_that_are_not_read_are_named(algorithm: bytes, reason: str) -> None:
    with pytest.raises(UnsupportedError, match=reason):
        opened(pfx(safe_of(algorithm, tlv(0x80, bytes(16)))))


@pytest.mark.parametrize(
    "algorithm",
    [
        sequence(oid(PBES2)),
        sequence(oid(PBE_3DES)),
        algorithm_with(DERIVATION, sequence(oid(AES256_CBC), octets(bytes(15)))),
        algorithm_with(DERIVATION, sequence(oid(AES256_CBC))),
    ],
)
def test_malformed_parameters_are_refused(algorithm: bytes) -> None:
    with pytest.raises(Asn1Error):
        opened(pfx(safe_of(algorithm, tlv(0x80, bytes(16)))))


def test_encrypted_data_without_content_is_refused() -> None:
    with pytest.raises(Asn1Error, match="missing"):
        opened(pfx(safe_of(algorithm_with(DERIVATION, CIPHER))))


def test_a_mac_by_an_unknown_hash_is_refused(issued: Issued) -> None:
    mac = sequence(sequence(sequence(oid("1.2.3.4")), octets(b"")), octets(b"salt"))
    with pytest.raises(UnsupportedError, match=r"MAC is made with .*1\.2\.3\.4"):
        opened(pfx(plain_safe(key_bag(issued.key)), mac=mac))


def test_pbkdf2_without_a_named_hash_means_sha_1(issued: Issued) -> None:
    algorithm, data = encrypted(sequence(certificate_bag(issued.certificate)), "secret", default_hash=True)
    assert opened(pfx(safe_of(algorithm, tlv(0x80, data)))).certificates == (der(issued),)


def test_a_password_is_spelled_as_each_scheme_wants_it() -> None:
    (spelling,) = spellings(["pä\N{SNOWMAN}\N{PILE OF POO}".encode()])
    assert spelling.utf8 == "pä\N{SNOWMAN}\N{PILE OF POO}".encode()
    assert spelling.bmp == bytes.fromhex("0070 00e4 2603 d83d dca9 0000")
    assert "pä" not in repr(spelling)


def test_a_password_that_is_not_utf_8_is_taken_for_latin_1() -> None:
    (spelling,) = spellings([b"p\xe4"])
    assert spelling.bmp == bytes.fromhex("0070 00e4 0000")


def test_no_password_and_the_empty_one_are_tried_once_each() -> None:
    assert [spelling.bmp for spelling in spellings([None, b"", None])] == [b"", b"\0\0"]


def test_a_key_bag_without_its_ciphertext_says_what_is_missing() -> None:
    algorithm, _ = handmade_pfx.encrypted(b"", "secret", iterations=1)
    bag = handmade_pfx.bag(handmade_pfx.SHROUDED_KEY_BAG, handmade_pfx.sequence(algorithm))
    with pytest.raises(Asn1Error, match="a value is missing"):
        opened(pfx(plain_safe(bag)))
