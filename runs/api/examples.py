"""Examples for the description of the API, made from the description itself: of every form there is one.

A field says with `examples` what it looks like; of the others the type says enough.
"""

from collections.abc import Mapping
from typing import Any

_PREFIX = "#/components/schemas/"
_OF_FORMAT = {
    "date-time": "2026-01-05T12:00:00Z",
    "date": "2026-01-05",
    "uuid": "0199b3c2-7d3e-7c4b-9a55-0f6d1c2b3a49",
    "binary": "",
}
_OF_NAME: Mapping[str, Any] = {
    "actor": "ann",
    "agreement": "as_pinned",
    "background": True,
    "code": "not_found",
    "deployments": ["refresh/prices"],
    "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "freshness": "ready",
    "activity": "idle",
    "key": "refresh/prices",
    "deployment": "refresh/prices",
    "kind": "refresh",
    "media_type": "application/vnd.apache.parquet",
    "metrics": {"loss": 0.05},
    "next_cursor": None,
    "number": 12,
    "parameters": {"days": 20},
    "pointer": "/body/deployment",
    "problem": None,
    "project": "default",
    "reference": "refresh/prices@v12",
    "resource": "prices",
    "role": "prices",
    "status": "completed",
    "stop_reason": "completed",
    "tags": ["nightly"],
    "trigger": "submitted",
    "type": "PipelineRun",
    "version": 12,
}
"""What fields of a name hold wherever they stand, if their form takes it."""


def add_examples(schemas: dict[str, Any]) -> None:
    """Give each form an example, unless it has one."""
    for schema in schemas.values():
        if schema.get("type") == "object" and "properties" in schema and not schema.get("examples"):
            schema["examples"] = [_example(schema, schemas)]


def _example(schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str = "") -> Any:  # noqa: PLR0911 - one per form
    if "$ref" in schema:
        return _example(schemas[schema["$ref"].removeprefix(_PREFIX)], schemas, name)
    if schema.get("examples"):
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if name in _OF_NAME and _takes(schema, _OF_NAME[name], schemas):
        return _OF_NAME[name]
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], schemas, name)
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {field: _example(form, schemas, field) for field, form in fields.items()}
        case "array":
            return [_example(schema.get("items", {}), schemas)] * schema.get("minItems", 1)
        case "string":
            return _OF_FORMAT.get(schema.get("format", ""), "text")
        case "integer":
            return max(1, schema.get("minimum", 1))
        case "number":
            return 0.5
        case "boolean":
            return False
    return None


def _takes(schema: Mapping[str, Any], value: Any, schemas: Mapping[str, Any]) -> bool:
    """Return whether a form takes a value, as far as its type and its list of words say."""
    if "$ref" in schema:
        return _takes(schemas[schema["$ref"].removeprefix(_PREFIX)], value, schemas)
    if "anyOf" in schema:
        return any(_takes(one, value, schemas) for one in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    if "pattern" in schema or "format" in schema:
        return False
    types: Mapping[type, tuple[str, ...]] = {
        str: ("string",), bool: ("boolean",), int: ("integer", "number"), dict: ("object",), list: ("array",),
        type(None): ("null",),
    }  # fmt: skip
    return schema.get("type") in types[type(value)]
