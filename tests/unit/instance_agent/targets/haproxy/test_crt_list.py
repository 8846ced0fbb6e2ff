"""A crt-list on the disk: lines come and go, an administrator's stay, and appending rewrites nothing."""

import os
from pathlib import Path

import pytest

from instance_agent.targets.base import Remove, ServerUnavailableError
from instance_agent.targets.haproxy.crt_list import CrtList
from instance_agent.targets.haproxy.disk import Disk

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


def long_list(path: Path) -> dict[str, str]:
    """A list of ours that is worth striking in, and its lines by file."""
    folder = path.with_suffix("")
    lines = {f"{folder}/h{i}.pem": f"{folder}/h{i}.pem h{i}.example.com" for i in range(1000)}
    opened(path).append(lines)
    assert path.stat().st_size > 65536
    return lines


def test_in_a_long_list_lines_are_struck_in_their_place_and_come_back_when_undone(path: Path) -> None:
    lines = long_list(path)
    before, inode, crt_list = path.read_text(), path.stat().st_ino, opened(path)
    gone = set(list(lines)[5:8])
    assert crt_list.can_strike(gone)
    undo = crt_list.strike(gone)
    expected = "".join(
        f"#{line[1:]}\n" if line in {lines[file] for file in gone} else f"{line}\n" for line in before.splitlines()
    )
    assert path.read_text() == expected
    assert path.stat().st_ino == inode
    assert crt_list.files == opened(path).files == {"/etc/own.pem", *lines} - gone
    undo()
    crt_list.refresh()
    assert path.read_text() == before
    assert crt_list.files == {"/etc/own.pem", *lines}


def test_struck_lines_and_no_comments_are_gone_when_the_whole_list_is_written(path: Path) -> None:
    lines = long_list(path)
    crt_list = opened(path)
    first, second, third = list(lines)[:3]
    crt_list.strike({first})
    crt_list.append({first: lines[first]})
    crt_list.strike({first, second})
    left = [line for file, line in lines.items() if file not in {first, second, third}]
    assert crt_list.without({third}, {}).decode() == BY_HAND + "".join(f"{line}\n" for line in left)


def test_a_short_list_one_that_is_struck_through_and_a_line_that_is_there_twice_are_not_struck(path: Path) -> None:
    assert not opened(path).can_strike({"/etc/own.pem"})
    lines = long_list(path)
    crt_list = opened(path)
    half = set(list(lines)[:500])
    crt_list.strike(half)
    assert not crt_list.can_strike(set(list(lines)[500:502]))
    assert not opened(path).can_strike(set(list(lines)[500:502]))
    twice = list(lines)[999]
    crt_list.append({twice: lines[twice]})
    assert not opened(path).can_strike({twice})


def test_a_removal_strikes_the_line_and_deletes_the_file_and_both_come_back_when_undone(path: Path) -> None:
    long_list(path)
    pem = path.with_suffix("") / "h7.example.com.pem"
    pem.parent.mkdir()
    pem.write_text("the key")
    opened(path).append({str(pem): f"{pem} h7.example.com"})
    before = path.read_text()
    written = Disk(path.parent).write([Remove(host="h7.example.com", port=443)])
    assert path.read_text() == before.replace(f"{pem} ", f"#{str(pem)[1:]} ")
    assert not pem.exists()
    written.undo()
    written.close()
    assert path.read_text() == before
    assert pem.read_text() == "the key"


def test_nothing_is_struck_in_a_list_that_another_program_is_writing(path: Path) -> None:
    lines = long_list(path)
    crt_list = opened(path)
    content = "# new\n" + path.read_text()
    path.write_text(content)
    with pytest.raises(ServerUnavailableError, match="another program"):
        crt_list.strike({next(iter(lines))})
    assert path.read_text() == content


def test_what_another_program_wrote_is_read_again(path: Path) -> None:
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
