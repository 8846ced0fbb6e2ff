"""What Azure's published types say of the resources in infra/: properties, which are required, kinds, allowed values.

It is in bicep_types.json, of what the files use and of what is required. To write it for changed files, with a clone of
github.com/Azure/bicep-types-az: `python -m tests.rigs.bicep_types CLONE`.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache, reduce
from pathlib import Path
from typing import Any

from tests.rigs.bicep import Expression, Resource, Value, files, read

RECORD = Path(__file__).with_suffix(".json")
BICEPS_OWN = {"parent", "scope", "dependsOn"}
_READ_ONLY, _REQUIRED = 2, 1
_SIMPLE = {"StringType": "string", "IntegerType": "int", "BooleanType": "bool", "AnyType": "any"}

Shape = dict[str, Any] | list[str] | str
"""An object with `has` and `needs`, or with `each` for any name; an array with `items`; allowed values; a kind."""


@cache
def recorded() -> Mapping[str, Any]:
    """The file's document: `commit` of the types, and `types` by name and version."""
    document: Mapping[str, Any] = json.loads(RECORD.read_text("utf-8"))
    return document


def made() -> Iterator[tuple[str, Resource]]:
    """The resources that the files make, by where they stand; those within others have no type of their own here."""
    for path in files():
        for name, resource in read(path).resources.items():
            if not resource.existing and resource.version:
                yield f"{path.stem} {name}", resource


def objections(shape: Shape, value: Value, where: str) -> Iterator[str]:
    """What speaks against a value."""
    match value:
        case Expression() | str():
            yield from _of_text(shape, value, where)
        case list() if isinstance(shape, dict) and "items" in shape:
            for at, item in enumerate(value):
                yield from objections(shape["items"], item, f"{where}[{at}]")
        case dict() if isinstance(shape, dict) and "items" not in shape:
            yield from _of_object(shape, value, where)
        case list() | dict() if shape != "any":
            yield f"{where} is no {'array' if isinstance(value, list) else 'object'}"


def _of_text(shape: Shape, value: str, where: str) -> Iterator[str]:
    if isinstance(value, Expression):
        kind = "bool" if value in {"true", "false"} else "int" if value.isdecimal() else ""
        if kind and shape not in (kind, "any"):
            yield f"{where} is no {kind}"
    elif isinstance(shape, dict) or shape in ("int", "bool"):
        yield f"{where} is no text"
    elif isinstance(shape, list) and "${" not in value and value not in shape:
        yield f"{where} may not be {value!r}, but {', '.join(shape)}"


def _of_object(shape: dict[str, Any], value: dict[str, Value], where: str) -> Iterator[str]:
    for name in shape.get("needs", ()):
        if name not in value:
            yield f"{where} lacks {name}"
    for name, inner in value.items():
        known = shape.get("has", {}).get(name, shape.get("each"))
        if known is None:
            yield f"{where} has no {name}"
        else:
            yield from objections(known, inner, f"{where}.{name}")


class _Types:
    """A file of types of bicep-types-az."""

    def __init__(self, clone: Path, kind: str, version: str) -> None:
        namespace = kind.partition("/")[0].lower()
        listed = _git(clone, "ls-tree", "-r", "--name-only", "HEAD").splitlines()
        for path in (path for path in listed if path.endswith(f"/{namespace}/{version}/types.json")):
            self.types = json.loads(_git(clone, "show", f"HEAD:{path}"))
            for found in self.types:
                if found["$type"] == "ResourceType" and found["name"].lower() == f"{kind}@{version}".lower():
                    self.body = found["body"]
                    return
        raise SystemExit(f"{kind}@{version} is not in {clone}")

    def shape(self, reference: Mapping[str, str], value: Value) -> Shape:
        """A type, as far as a value uses it."""
        found = self.types[int(reference["$ref"].rpartition("/")[2])]
        match found["$type"]:
            case "UnionType":
                parts = [self.types[int(each["$ref"].rpartition("/")[2])] for each in found["elements"]]
                words = [each["value"] for each in parts if each["$type"] == "StringLiteralType"]
                return words or "string"
            case "StringLiteralType":
                return [found["value"]]
            case "ArrayType":
                items = value if isinstance(value, list) and value else [Expression("")]
                return {"items": reduce(_joined, (self.shape(found["itemType"], item) for item in items))}
            case "ObjectType":
                return self._object(found["properties"], found.get("additionalProperties"), value)
            case "DiscriminatedObjectType":
                word = value[found["discriminator"]] if isinstance(value, dict) else ""
                element = self.types[int(found["elements"][word]["$ref"].rpartition("/")[2])]
                return self._object(found["baseProperties"] | element["properties"], None, value)
        return _SIMPLE[found["$type"]]

    def _object(self, properties: Mapping[str, Any], any_name: Mapping[str, str] | None, value: Value) -> Shape:
        used = value if isinstance(value, dict) else {}
        may = {name: each for name, each in properties.items() if not each.get("flags", 0) & _READ_ONLY}
        has = {name: self.shape(may[name]["type"], inner) for name, inner in used.items() if name in may}
        needs = sorted(name for name, each in may.items() if each.get("flags", 0) & _REQUIRED)
        shape: dict[str, Any] = {"has": has, "needs": needs}
        others = [inner for name, inner in used.items() if name not in may]
        return shape | ({"each": self.shape(any_name, others[0])} if any_name and others else {})


def _git(clone: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", clone, *words], capture_output=True, text=True, check=True).stdout


def _joined(one: Any, other: Any) -> Any:
    """Two shapes of one type, each as far as a resource uses it."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return other if isinstance(one, str) and one == "string" else one
    return {
        name: (_joined(one[name], other[name]) if name in one and name in other else one.get(name, other.get(name)))
        for name in sorted({*one, *other})
    }


def main(clone: Path) -> None:
    """Write what the types of a clone say of the resources that there are."""
    found: dict[str, Any] = {}
    for _, resource in made():
        name = f"{resource.kind}@{resource.version}"
        types = _Types(clone, resource.kind, resource.version)
        body = {name: value for name, value in resource.body.items() if name not in BICEPS_OWN}
        shape = types.shape(types.body, body)
        found[name] = _joined(found[name], shape) if name in found else shape
    document = {"commit": _git(clone, "rev-parse", "--short", "HEAD").strip(), "types": dict(sorted(found.items()))}
    text = json.dumps(document, indent=1)
    RECORD.write_text(re.sub(r"\[\n\s+([^\]{}]*?)\n\s+\]", _on_one_line, text) + "\n", encoding="utf-8")


def _on_one_line(found: re.Match[str]) -> str:
    return "[" + re.sub(r"\s*\n\s*", " ", found[1]) + "]"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
