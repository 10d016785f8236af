"""The page about the REST API: what stands between its marks comes from the API's own description.

    <!-- routes -->
    …
    <!-- end of routes -->

`python -m tests.reference.rest` writes it; all else on the page is written by hand.
"""

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from freshline.runs.api.access import PREFIX, Access
from freshline.runs.api.app import create_app
from freshline.runs.composition import Freshline
from freshline.storage.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "rest.md"
_BLOCK = re.compile(r"<!-- routes -->\n.*<!-- end of routes -->\n", re.DOTALL)
_REF = "#/components/schemas/"
_ORDER = ("get", "post", "put", "patch", "delete")


def described() -> dict[str, Any]:
    """The description of the API as it is."""
    with tempfile.TemporaryDirectory() as home:
        freshline = Freshline(Settings(home=Path(home)), None, None)  # type: ignore[arg-type]  # nothing is asked of it
        return create_app(freshline, access=Access(token="none")).openapi()


def written(text: str, schema: Mapping[str, Any]) -> str:
    """The page with the routes of this description between its marks."""
    assert _BLOCK.search(text), f"{PAGE.name} has no place for the routes"
    return _BLOCK.sub(lambda _: f"<!-- routes -->\n\n{routes(schema)}\n<!-- end of routes -->\n", text)


def routes(schema: Mapping[str, Any]) -> str:
    """Every route by group, and every form that is sent or answered."""
    groups: dict[str, list[str]] = {}
    for path, methods in schema["paths"].items():
        for method in sorted(methods, key=_ORDER.index):
            operation = methods[method]
            groups.setdefault(operation["tags"][0], []).append(_route(method, path, operation))
    parts = [f"## {name.capitalize()}\n\n" + "\n".join(found) for name, found in groups.items()]
    forms = [_form(name, form) for name, form in sorted(schema["components"]["schemas"].items())]
    return "\n".join([*parts, "## Forms\n\n" + "\n".join(form for form in forms if form)])


def _route(method: str, path: str, operation: Mapping[str, Any]) -> str:
    lines = [f"### `{method.upper()} {path.removeprefix(PREFIX)}`", "", _sentence(operation["description"]), ""]
    if operation.get("security", []) == []:
        lines[2] += " Needs no token."
    given = [one for one in operation.get("parameters", ()) if one["in"] != "path"]
    if given:
        lines += ["| parameter | form | meaning |", "| --- | --- | --- |"]
        for one in given:
            name = one["name"] if one["in"] == "query" else f"{one['name']} (header)"
            said = one.get("description") or one["schema"].get("description", "")
            lines.append(f"| `{name}` | {_type(one['schema'])}{_default(one['schema'])} | {_cell(said)} |")
        lines.append("")
    body = operation.get("requestBody")
    if body is not None:
        lines += [f"Takes {_type(body['content']['application/json']['schema'])}.", ""]
    lines += [f"Answers {', '.join(_answers(operation))}.", ""]
    return "\n".join(lines)


def _answers(operation: Mapping[str, Any]) -> Iterator[str]:
    for status, answer in operation["responses"].items():
        if not status.startswith("2"):
            continue
        content = answer.get("content", {})
        if "application/json" in content:
            yield f"{status} with {_type(content['application/json']['schema'])}"
        elif content:
            yield f"{status} with " + " or ".join(f"`{name}`" for name in content)
        else:
            yield f"{status} without content"


def _form(name: str, form: Mapping[str, Any]) -> str:
    fields = form.get("properties", {})
    if "enum" in form:
        words = ", ".join(f"`{word}`" for word in form["enum"])
        return f"### {name}\n\n{_sentence(form.get('description', ''))} One of {words}.\n"
    needed = set(form.get("required", ()))
    is_sent = form.get("additionalProperties") is False
    lines = [f"### {name}", "", _sentence(form.get("description", "")), "", "| field | form | meaning |"]
    lines.append("| --- | --- | --- |")
    for field, of in fields.items():
        must = ", required" if is_sent and field in needed else ""
        default = _default(of) if is_sent else ""
        lines.append(f"| `{field}` | {_type(of)}{must}{default} | {_cell(of.get('description', ''))} |")
    return "\n".join([*lines, ""])


def _type(schema: Mapping[str, Any]) -> str:  # noqa: PLR0911 - one per form
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(one) for one in schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"`{word}`" for word in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    match schema.get("type"):
        case "array":
            return f"list of {_type(schema.get('items', {}))}"
        case "object":
            below = schema.get("additionalProperties")
            return f"object of {_type(below)}" if isinstance(below, dict) and below else "object"
        case "string":
            return {"date-time": "time", "date": "date", "uuid": "id"}.get(schema.get("format", ""), "text")
        case "integer":
            return "whole number"
        case "number":
            return "number"
        case "boolean":
            return "true or false"
        case "null":
            return "null"
    return "anything"


def _default(schema: Mapping[str, Any]) -> str:
    default = schema.get("default")
    if default is None or default in ([], {}, ""):
        return ""
    shown = str(default).lower() if isinstance(default, bool) else default
    return f"; else `{shown}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _sentence(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), described()), encoding="utf-8")
    print(f"written: {PAGE}")
