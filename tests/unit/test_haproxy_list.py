"""A crt-list on the disk: lines come and go, an administrator's stay, and appending rewrites nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from instance_agent.targets.base import ServerUnavailableError
from instance_agent.targets.haproxy_list import CrtList

if TYPE_CHECKING:
    from pathlib import Path

BY_HAND = "# by hand\n\n/etc/own.pem [alpn h2] own.example.com !not.example.com\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "443.list"
    path.write_text(BY_HAND)
    return path


def opened(path: Path) -> CrtList:
    crt_list = CrtList(path)
    crt_list.refresh()
    return crt_list


def test_it_names_the_files_of_its_lines_and_no_comment(path: Path) -> None:
    assert opened(path).files == {"/etc/own.pem"}


def test_lines_are_appended_to_the_same_file_and_can_be_cut_off_again(path: Path) -> None:
    crt_list, inode = opened(path), path.stat().st_ino
    undo = crt_list.append({"/a.pem": "/a.pem a.example.com", "/b.pem": "/b.pem b.example.com"})
    assert path.read_text() == BY_HAND + "/a.pem a.example.com\n/b.pem b.example.com\n"
    assert path.stat().st_ino == inode
    assert crt_list.files == {"/etc/own.pem", "/a.pem", "/b.pem"}
    undo()
    crt_list.refresh()
    assert path.read_text() == BY_HAND
    assert crt_list.files == {"/etc/own.pem"}


def test_lines_that_go_take_no_other_with_them(path: Path) -> None:
    crt_list = opened(path)
    crt_list.append({"/a.pem": "/a.pem a.example.com"})
    content = crt_list.without({"/a.pem", "/never.pem"}, {"/b.pem": "/b.pem b.example.com"})
    assert content.decode() == BY_HAND + "/b.pem b.example.com\n"


def test_what_it_was_rewritten_with_is_known_without_reading_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crt_list = opened(path)
    crt_list.append({"/a.pem": "/a.pem a.example.com"})
    gone, new = {"/a.pem"}, {"/b.pem": "/b.pem b.example.com"}
    path.write_bytes(crt_list.without(gone, new))
    crt_list.was_written(gone, new)
    with monkeypatch.context() as patched:
        patched.setattr(type(path), "read_text", None)
        crt_list.refresh()
    assert crt_list.files == opened(path).files == {"/etc/own.pem", "/b.pem"}
    assert crt_list.can_append


def test_what_somebody_else_wrote_is_read_again(path: Path) -> None:
    crt_list = opened(path)
    path.write_text("/other.pem other.example.com\n")
    crt_list.refresh()
    assert crt_list.files == {"/other.pem"}


def test_nothing_is_appended_to_a_last_line_without_an_end_or_to_a_list_that_is_missing(path: Path) -> None:
    path.write_text("/own.pem own.example.com")
    assert not opened(path).can_append
    assert opened(path).without(set(), {"/a.pem": "/a.pem a"}) == b"/own.pem own.example.com\n/a.pem a\n"
    path.unlink()
    assert not opened(path).can_append
    assert opened(path).files == set()


def test_a_full_disk_leaves_the_list_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(descriptor: int, content: bytes) -> int:
        return write(descriptor, content[: len(content) // 2])

    write = os.write
    crt_list = opened(path)
    monkeypatch.setattr(os, "write", half)
    with pytest.raises(ServerUnavailableError, match="disk is full"):
        crt_list.append({"/a.pem": "/a.pem a.example.com"})
    assert path.read_text() == BY_HAND
