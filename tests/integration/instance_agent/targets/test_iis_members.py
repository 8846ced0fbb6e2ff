"""The C# assembly that stands in for Microsoft.Web.Administration offers no public member that the real one has not."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from instance_agent.windows.dotnet import namespace
from tests.fakes.iis.mono import MonoProcess, build
from tests.rigs.deployment import ROOT
from tests.rigs.programs import needs

pytestmark = needs("mcs", "mono")

LIST = ROOT.parent / "shared" / "data" / "microsoft-web-administration-7.0.0.0.txt"
OWN = "Microsoft.Web.Administration"
Members = dict[str, set[str]]


def plain(name: str) -> str:
    """A type's name without its namespace and type arguments."""
    return re.sub(r"\[\[.*\]\]", "", name).rpartition(".")[2]


def documented(text: str) -> Members:
    """Members by type, those of its base types among them, with the types that collections are of in place of T."""
    members: Members = {}
    bases: dict[str, tuple[str, str]] = {}
    current = ""
    for line in text.splitlines():
        if match := re.match(r"TYPE (?P<type>\S+) : (?P<base>[^\s\[]+)(\[\[(?P<of>[^\]]+)\]\])?", line):
            current = plain(match["type"])
            members[current] = set()
            bases[current] = (plain(match["base"]), plain(match["of"] or ""))
        elif line.startswith("   "):
            members[current].add(normal(line.strip()))
    return {name: inherited(name, "", members, bases) for name in members}


def inherited(name: str, of: str, members: Members, bases: dict[str, tuple[str, str]]) -> set[str]:
    if name not in members:
        return set()
    base, base_of = bases[name]
    own = {re.sub(r"\bT\b", of, member) if of else member for member in members[name]}
    return own | inherited(base, base_of, members, bases)


def normal(line: str) -> str:
    """`M Result Name(Types)`, `P Type Name r [Types]`, `C (Types)` or `Name=number`, with plain type names."""
    kind, _, rest = line.partition(" ")
    if kind == "M":
        head, _, parameters = rest.partition("(")
        result, _, name = head.rpartition(" ")
        return f"M {plain(result)} {name}({types(parameters.removesuffix(')'))})"
    if kind == "P":
        match = re.match(
            r"(?P<type>\S+) (?P<name>\S+) (?P<access>rw?)( \[(?P<index>.*)\])?\Z", re.sub(r"\[\[.*\]\]", "", rest)
        )
        assert match, line
        return f"P {plain(match['type'])} {match['name']} {match['access']} [{types(match['index'] or '')}]"
    return f"C ({types(rest.strip('()'))})" if kind == "C" else line


def types(parameters: str) -> str:
    return ", ".join(plain(each) for each in parameters.split(", ")) if parameters else ""


def offered() -> Members:
    """What the stand-in offers, read by reflection inside the Mono process."""
    system = namespace("System")
    assembly = next(
        it
        for it in system.AppDomain.CurrentDomain.GetAssemblies()
        if str(it.GetName().Name) == "Microsoft.Web.Administration"
    )
    return {str(it.Name): set(members_of(it, system)) for it in assembly.GetExportedTypes() if str(it.Namespace) == OWN}


def members_of(kind: Any, system: Any) -> Iterator[str]:
    if kind.IsEnum:
        for name, value in zip(system.Enum.GetNames(kind), system.Enum.GetValues(kind), strict=True):
            yield f"{name}={int(value)}"
        return
    binding = system.Reflection.BindingFlags
    flags = binding.Public | binding.Instance | binding.Static | binding.DeclaredOnly
    for method in kind.GetMethods(flags):
        if not method.IsSpecialName:
            yield f"M {method.ReturnType.Name} {method.Name}({parameters_of(method.GetParameters())})"
    for each in kind.GetProperties(flags):
        access = "rw" if each.GetSetMethod() is not None else "r"
        yield f"P {each.PropertyType.Name} {each.Name} {access} [{parameters_of(each.GetIndexParameters())}]"
    for constructor in kind.GetConstructors(flags):
        yield f"C ({parameters_of(constructor.GetParameters())})"


def parameters_of(parameters: Any) -> str:
    return ", ".join(str(each.ParameterType.Name) for each in parameters)


def lacking(stub: Members, real: Members) -> list[str]:
    """What the stand-in has too much, each as type and member; what can be written can be read too."""
    return sorted(
        f"{name}: {member}"
        for name, members in stub.items()
        for member in members - real.get(name, set())
        if member.replace(" r [", " rw [") not in real.get(name, set())
    )


def test_the_list_is_understood() -> None:
    text = """# Facts, no code.
TYPE X.Row : X.Element
   P System.Byte[] Hash rw
TYPE X.Rows : X.Base`1[[X.Row]] sealed
   M X.Row Add(System.String, System.Byte[])
TYPE X.Base`1 : X.Element
   P T Item r [System.Int32]
TYPE X.Kind : System.Enum sealed
   None=0
"""
    assert documented(text)["Rows"] == {"M Row Add(String, Byte[])", "P Row Item r [Int32]"}
    assert lacking(
        {"Row": {"P Byte[] Hash r []", "P Int32 Id r []"}, "Kind": {"None=0", "More=1"}}, documented(text)
    ) == [
        "Kind: More=1",
        "Row: P Int32 Id r []",
    ]


@pytest.mark.skipif(not LIST.is_file(), reason=f"the members of the real assembly are not here: {LIST.name}")
def test_every_public_member_exists_in_the_real_assembly(tmp_path: Path) -> None:
    process = MonoProcess(build(tmp_path), tmp_path)
    try:
        stub = process.run(offered)
    finally:
        process.end()
    assert {"Binding", "BindingCollection", "ServerManager", "SslFlags"} <= set(stub)
    assert lacking(stub, documented(LIST.read_text(encoding="utf-8"))) == []
