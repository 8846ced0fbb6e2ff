"""A folder of PFX files as a certificate source."""

import json
from pathlib import Path

import pytest

from local_azure.folder_watch import certificate_files
from shared.errors import UnavailableError
from shared.sources.folder import FolderCertificates
from tests.rigs.some import some

NAME = "folder://shop.pfx"


@pytest.fixture
def source(tmp_path: Path) -> FolderCertificates:
    (tmp_path / "shop.pfx").write_bytes(b"pfx")
    return FolderCertificates(tmp_path)


async def etag(source: FolderCertificates) -> str:
    return some(await source.version(NAME)).etag


async def test_files_are_listed_without_what_is_no_pfx_and_without_subfolders(
    source: FolderCertificates, tmp_path: Path
) -> None:
    for name in ("shop.json", "notes.txt", ".pfx", "other.P12"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "deep.pfx").write_bytes(b"x")
    assert [version.name async for version in source.each()] == ["folder://other.P12", NAME]


async def test_the_json_beside_it_is_its_metadata_as_texts(source: FolderCertificates, tmp_path: Path) -> None:
    (tmp_path / "shop.json").write_text(json.dumps({"HostHeader": "größe.test", "PortNumber": 8443}), encoding="utf-8")
    found = some(await source.read(NAME, max_bytes=100))
    assert found.version.metadata == {"HostHeader": "größe.test", "PortNumber": "8443"}
    assert (found.content, found.version.size) == (b"pfx", 3)


async def test_without_json_it_has_no_metadata(source: FolderCertificates) -> None:
    found = some(await source.read(NAME, max_bytes=2))
    assert (found.version.metadata, found.content, found.version.size) == ({}, b"pf", 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [(b"{", "not JSON"), (b"\xff", "not JSON"), (b"[]", "not a JSON object"), (b"1", "not a JSON object")],
)
async def test_json_that_cannot_be_used_makes_the_upload_be_rejected_in_words(
    source: FolderCertificates, tmp_path: Path, text: bytes, said: str
) -> None:
    (tmp_path / "shop.json").write_bytes(text)
    assert said in some(await source.version(NAME)).metadata["PortNumber"]


async def test_the_version_changes_with_content_and_metadata_and_with_nothing_else(
    source: FolderCertificates, tmp_path: Path
) -> None:
    seen = [await etag(source)]
    (tmp_path / "shop.pfx").touch()
    assert await etag(source) == seen[0]
    (tmp_path / "shop.json").write_text('{"HostHeader": "a.test"}')
    seen.append(await etag(source))
    (tmp_path / "shop.json").write_text('{ "HostHeader":  "a.test" }')
    assert await etag(source) == seen[1]
    (tmp_path / "shop.pfx").write_bytes(b"another")
    seen.append(await etag(source))
    assert len(set(seen)) == 3


@pytest.mark.parametrize(
    "name",
    [
        "../outside.pfx",
        "sub/deep.pfx",
        "/etc/outside.pfx",
        "..\\outside.pfx",
        "",
        ".pfx",
        "shop.json",
        "gone.pfx",
        "a\0.pfx",
    ],
)
async def test_no_name_reaches_anything_but_a_pfx_file_in_the_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for file in (tmp_path / "outside.pfx", folder / "sub" / "deep.pfx", folder / "shop.json"):
        file.write_bytes(b"{}")
    assert await FolderCertificates(folder).read(f"folder://{name}", max_bytes=10) is None


async def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="gone cannot be read"):
        _ = [version async for version in FolderCertificates(tmp_path / "gone").each()]


async def test_something_else_of_that_name_is_not_taken_for_gone(tmp_path: Path) -> None:
    (tmp_path / "shop.pfx").mkdir()
    with pytest.raises(UnavailableError, match=r"shop\.pfx cannot be read"):
        await FolderCertificates(tmp_path).read(NAME, max_bytes=10)


@pytest.mark.parametrize(
    ("changed", "about"),
    [
        ("shop.pfx", ["shop.pfx"]),
        ("gone.p12", ["gone.p12"]),
        ("shop.json", ["shop.pfx"]),
        ("x.json", []),
        ("x.txt", []),
    ],
)
def test_a_change_is_about_the_pfx_file_or_the_one_that_the_json_lies_beside(
    tmp_path: Path, changed: str, about: list[str]
) -> None:
    (tmp_path / "shop.pfx").write_bytes(b"pfx")
    assert [path.name for path in certificate_files(tmp_path / changed)] == about
