"""Lock files as CycloneDX documents: a program of the project's environment, which bill_of_materials.py runs."""

from __future__ import annotations

import argparse
import re
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PROJECT = "certcast"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """What pip installs packages for.

    Attributes:
        name: Of what is shipped.
        lock: Its lock file, in the folder in which the program runs.
        description: What its document is about.
    """

    name: str
    lock: str
    description: str


SHIPPED = (
    Shipped(
        name="certcast-function",
        lock="requirements.txt",
        description="certcast's Functions app, on each Python that it may be deployed for",
    ),
    Shipped(
        name="certcast-agent",
        lock="infra/agent/requirements.lock",
        description="certcast's agent, on each Python and system that it may be installed on",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One package of a lock file.

    Attributes:
        name: Its name, normalised.
        version: The only version that may be installed.
        marker: Where it is installed at all (PEP 508); empty for everywhere.
        needed_by: Names of the packages that need it; the project is among them where it asks for it itself.
    """

    name: str
    version: str
    marker: str
    needed_by: frozenset[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the documents, which are held against the schema of CycloneDX 1.6 first, and print their names."""
    parser = argparse.ArgumentParser(prog="cyclonedx_documents")
    parser.add_argument("into", type=Path)
    parser.add_argument("version")
    parser.add_argument("epoch", type=int)
    chosen = parser.parse_args(arguments)
    for shipped in SHIPPED:
        document = document_of(shipped, chosen.version, chosen.epoch)
        if (wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(document)) is not None:
            sys.stderr.write(f"the bill of materials of {shipped.name} breaks the schema of CycloneDX 1.6: {wrong}\n")
            return 1
        path = chosen.into / f"{shipped.name}-{chosen.version}.cdx.json"
        path.write_text(document, encoding="utf-8", newline="\n")
        sys.stdout.write(f"{path.name}\n")
    return 0


def document_of(shipped: Shipped, version: str, epoch: int) -> str:
    """The document of one of what is shipped; the same for the same lock file, version and time.

    Args:
        shipped: What is shipped.
        version: The project's.
        epoch: The time that it gets, in seconds since 1970.
    """
    text = Path(shipped.lock).read_text(encoding="utf-8")
    root = Component(
        name=shipped.name,
        version=version,
        type=ComponentType.APPLICATION,
        bom_ref=shipped.name,
        description=shipped.description,
        licenses=[DisjunctiveLicense(id="MIT")],
    )
    bom = bill(root, list(pins(text)))
    bom.metadata.timestamp = datetime.fromtimestamp(epoch, UTC)
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, f"{shipped.name} {version} {text}")  # else it would be random
    return f"{JsonV1Dot6(bom).output_as_string(indent=2)}\n"


def pins(text: str) -> Iterator[Pin]:
    """The packages of a lock file as uv writes it: the pin, its hashes, then in comments what needs it."""
    for entry in re.split(r"^(?=[^\s#])", text, flags=re.MULTILINE)[1:]:
        requirement = Requirement(re.split(r"\s*\\?\n", entry, maxsplit=1)[0])
        (pinned,) = requirement.specifier
        via = re.findall(r"^ +#(?: via)? +([\w.-]+)(?: \(pyproject\.toml\))?$", entry, re.MULTILINE)
        yield Pin(
            name=requirement.name,
            version=pinned.version,
            marker=str(requirement.marker or ""),
            needed_by=frozenset(via) - {"via"},
        )


def bill(root: Component, locked: Sequence[Pin]) -> Bom:
    """The packages, and which needs which, below what is shipped."""
    bom = Bom()
    bom.metadata.component = root
    bom.metadata.tools.components.add(this_component())
    components = [(pin, _component(pin)) for pin in locked]
    needing: dict[str, list[Component]] = {_PROJECT: [root]}
    for pin, component in components:
        bom.components.add(component)
        needing.setdefault(pin.name, []).append(component)  # of some there are two, each for other Pythons
    for needed, names in ((component, pin.needed_by) for pin, component in components):
        for name in names:
            for needs in needing[name]:
                bom.register_dependency(needs, [needed])
    return bom


def _component(pin: Pin) -> Component:
    purl = PackageURL("pypi", None, pin.name, pin.version)
    return Component(
        name=pin.name,
        version=pin.version,
        type=ComponentType.LIBRARY,
        bom_ref=str(purl),
        purl=purl,
        description=f"only where {pin.marker}" if pin.marker else None,
    )


if __name__ == "__main__":
    sys.exit(main())
