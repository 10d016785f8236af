"""The description of the API: complete, with examples that hold."""

import pytest
from jsonschema import Draft202012Validator

from freshline.runs.api.access import Access
from freshline.runs.api.app import create_app
from freshline.runs.composition import Freshline
from freshline.storage.settings import Settings
from tests.asking import TOKEN
from tests.reference import rest


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    freshline = Freshline(Settings(home=tmp_path_factory.mktemp("home")), None, None)
    return create_app(freshline, access=Access(token=TOKEN)).openapi()


@pytest.fixture(scope="module")
def operations(schema):
    return {
        f"{method.upper()} {path}": operation
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }


def validator(schema, of):
    return Draft202012Validator({**of, "components": schema["components"]})


def test_every_operation_says_what_it_does_and_needs(operations):
    assert len(operations) > 35
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description") or parameter["schema"].get("description"), (name, parameter["name"])
    writes = [name for name in operations if not name.startswith("GET") and "/session" not in name]
    assert [name for name in writes if operations[name].get("security") != [{"token": []}, {"session": []}]] == []


def test_every_operation_declares_its_problems(operations):
    for name, operation in operations.items():
        answers = operation["responses"]
        wanted = {"401", "403", "404", "413", "422", "500", "503"} | (set() if name.startswith("GET") else {"409"})
        assert wanted <= answers.keys(), name
        # Health says with 503 what fails, not that it does.
        for status in wanted - ({"503"} if name == "GET /health" else set()):
            content = answers[status]["content"]
            assert content == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}, name


def test_every_form_has_an_example_that_it_takes(schema):
    forms = schema["components"]["schemas"]
    assert "HTTPValidationError" not in forms
    for name, form in forms.items():
        if form.get("type") != "object":
            continue
        assert form["examples"], name
        for example in form["examples"]:
            errors = [error.message for error in validator(schema, form).iter_errors(example)]
            assert errors == [], f"{name}: {errors[0]}"


def test_examples_of_fields_and_parameters_are_taken(schema, operations):
    fields = [
        (f"{name}.{field}", of)
        for name, form in schema["components"]["schemas"].items()
        for field, of in form.get("properties", {}).items()
    ]
    parameters = [
        (f"{name} {one['name']}", one["schema"]) for name, op in operations.items() for one in op.get("parameters", ())
    ]
    checked = 0
    for name, of in (*fields, *parameters):
        for example in of.get("examples", ()):
            checked += 1
            assert validator(schema, of).is_valid(example), name
    assert checked > 20


def test_value_that_is_no_finite_number_is_described(schema):
    value = schema["components"]["schemas"]["MetricDocument"]["properties"]["value"]
    taken = [
        one for one in (1.5, "NaN", "Infinity", "-Infinity", "inf", None) if validator(schema, value).is_valid(one)
    ]
    assert taken == [1.5, "NaN", "Infinity", "-Infinity"]


def test_reference_page_says_what_the_api_says(schema):
    text = rest.PAGE.read_text(encoding="utf-8")
    assert rest.written(text, schema) == text, "docs/reference/rest.md: run `python -m tests.reference.rest`"
    assert "### `GET /runs/{run_id}/events`" in text
