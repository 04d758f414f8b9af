"""A small checker for JSON Schema (draft 2020-12): the keywords that our schemas use, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

KNOWN = frozenset((
    "$schema", "$id", "$defs", "$ref", "title", "description", "type", "properties", "required", "additionalProperties",
    "propertyNames", "maxProperties", "items", "minItems", "maxItems", "anyOf", "enum", "const", "pattern", "maxLength",
    "minimum", "maximum", "format",
))  # fmt: skip
_TYPES: dict[str, Any] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "number": (int, float),
}  # fmt: skip


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """The schema and all schemas in it."""
    yield schema
    for key in ("items", "additionalProperties", "propertyNames"):
        if isinstance(schema.get(key), dict):
            yield from parts(schema[key])
    for key in ("properties", "$defs"):
        for part in schema.get(key, {}).values():
            yield from parts(part)
    for part in schema.get("anyOf", ()):
        yield from parts(part)


def matches(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether the value is as the schema says."""
    if "$ref" in schema and not matches(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root):
        return False
    if "anyOf" in schema and not any(matches(value, part, root) for part in schema["anyOf"]):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "const" in schema and value != schema["const"]:
        return False
    if "type" in schema and not _is(value, schema["type"]):
        return False
    if isinstance(value, bool):
        return True
    if isinstance(value, int | float):
        return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))
    if isinstance(value, str):
        return len(value) <= schema.get("maxLength", len(value)) and bool(
            re.search(schema.get("pattern", ""), value)
        )
    if isinstance(value, list):
        return _array(value, schema, root)
    return _object(value, schema, root) if isinstance(value, dict) else True


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return isinstance(value, _TYPES[name])


def _array(value: list[Any], schema: dict[str, Any], root: dict[str, Any]) -> bool:
    size = len(value)
    return schema.get("minItems", 0) <= size <= schema.get("maxItems", size) and all(
        matches(item, schema.get("items", {}), root) for item in value
    )


def _object(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any]) -> bool:
    own, other = schema.get("properties", {}), schema.get("additionalProperties", {})
    if not all(key in value for key in schema.get("required", ())) or len(value) > schema.get(
        "maxProperties", len(value)
    ):
        return False
    return all(
        matches(key, schema.get("propertyNames", {}), root)
        and (
            matches(item, own[key], root) if key in own else other is not False and matches(item, other, root)
        )
        for key, item in value.items()
    )
