"""Every command of `az` and `azd` on a page is one that they would take, and every variable in it is set by then."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.rigs import azd_cli
from tests.rigs.azure_cli import (
    UnknownCommandError,
    command_of,
    grammar,
    inline,
    parse,
    recorded,
    run_blocks,
    script_of,
)
from tests.rigs.pages import DEPLOY, PAGES, text_of

SCRIPTS = [page for page in PAGES if script_of(page)]
DATA = re.compile(r"storage (?:blob|container|queue|table) ")


def test_the_pages_show_commands() -> None:
    assert DEPLOY in SCRIPTS
    assert len(SCRIPTS) > 2


@pytest.fixture(scope="module", params=SCRIPTS, ids=str)
def ran(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, subprocess.CompletedProcess[bytes], list[list[str]]]:
    folder = tmp_path_factory.mktemp("page")
    return request.param, run_blocks(request.param, folder), recorded(folder)


Ran = tuple[Path, subprocess.CompletedProcess[bytes], list[list[str]]]


def test_a_page_s_commands_run_from_first_to_last_with_every_variable_set(ran: Ran) -> None:
    _, script, calls = ran
    assert script.returncode == 0, script.stderr.decode()
    assert b"unbound" not in script.stderr
    assert b"not found" not in script.stderr
    assert calls


def test_the_cli_knows_each_command_with_its_options(ran: Ran) -> None:
    for words in ran[2]:
        assert parse(words) or words == command_of(words).split(), words


def test_data_is_asked_for_with_an_identity_as_the_accounts_take_no_keys(ran: Ran) -> None:
    for words in ran[2]:
        if DATA.match(" ".join(words)) and "--account-name" in words:
            assert parse(words).get("--auth-mode") == "login", words


@pytest.mark.parametrize("page", [page for page in PAGES if inline(page)], ids=str)
def test_the_cli_knows_the_commands_within_sentences(page: Path) -> None:
    for words in inline(page):
        assert command_of(words) in grammar()["commands"]
        if len(words) > len(command_of(words).split()):  # else it is only named
            parse(words)


@pytest.mark.parametrize(
    "words",
    [
        "group create --name x",
        "group create --name x --location y --colour red",
        "storage account create --name x --resource-group y --min-tls-version TLS9",
        "group invent --name x",
    ],
)
def test_what_the_cli_does_not_know_is_refused(words: str) -> None:
    with pytest.raises(UnknownCommandError):
        parse(words.split())


def test_the_page_tells_by_which_version_of_the_cli_it_was_checked() -> None:
    assert re.findall(r"Azure CLI (\d+\.\d+)", text_of(DEPLOY)) == [grammar()["version"].rpartition(".")[0]]


AZD = [(page, words) for page in PAGES for words in inline(page, "azd")]


def test_azd_knows_each_command_with_its_arguments_and_options(tmp_path: Path) -> None:
    run_blocks(DEPLOY, tmp_path)
    shown = [azd_cli.parse(words) for words in recorded(tmp_path, "azd")]
    assert {command for command, _, _ in shown} >= {"auth login", "env new", "up", "env get-value", "down"}


@pytest.mark.parametrize(("page", "words"), AZD, ids=str)
def test_azd_knows_the_commands_within_sentences(page: Path, words: list[str]) -> None:
    named = " ".join(words) in azd_cli.grammar()["commands"]
    assert named or azd_cli.parse(words), page


@pytest.mark.parametrize(
    "words", ["env", "env new", "env new a b", "up --colour red", "up now", "down --purge=true", "invent something"]
)
def test_what_azd_does_not_know_is_refused(words: str) -> None:
    with pytest.raises(UnknownCommandError):
        azd_cli.parse(words.split())
