"""Declared columns: the names of types as people write them, and every difference in one error."""

import pyarrow as pa
import pytest
from hypothesis import given, settings

from freshline.storage.declared import DeclaredTable, check_all_written, declared_tables
from freshline.storage.digest import schema_types, type_name
from freshline.storage.errors import InvalidInput
from freshline.storage.filesystem import ObjectStore
from freshline.storage.ids import new_id
from freshline.storage.parquet import write_table
from freshline.storage.plain import plain_schema
from freshline.storage.type_names import SIMPLE, canonical_type
from freshline.storage.upserting import upsert_table
from tests.unit.storage.tables import KINDS

PRICES = DeclaredTable("prices", {"date": "date", "close": "float64"})


@settings(max_examples=60, deadline=None)
@given(KINDS)
def test_name_of_every_type_that_is_stored_is_read_as_itself(kind):
    (field,) = plain_schema(pa.schema([("a", kind)]))
    name = type_name(field.type)
    assert name == "null" or canonical_type(name) == name


@pytest.mark.parametrize("name", [*SIMPLE, "arrow.uuid<binary[16]>", "duration[s]",
                                  'struct<"x y": list<int8>[3], "z": map<string, bool>>'])  # fmt: skip
def test_canonical_name_is_read_as_itself(name):
    assert canonical_type(name) == name


def test_struct_whose_field_is_not_ascii_is_named_as_the_digest_names_it():
    ((_, name),) = schema_types(pa.schema({"a": pa.struct({"ü": pa.int8()})}))
    assert canonical_type(name) == name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (" float64 ", "float64"),
        ("timestamp[us,UTC]", "timestamp[us, UTC]"),
        ("timestamp[ns,  America/New_York]", "timestamp[ns, America/New_York]"),
        ("decimal(10,2)", "decimal128(10, 2)"),
        ("map<string,list< int8 >>", "map<string, list<int8>>"),
        ('struct<"a":int8,"b":bool>', 'struct<"a": int8, "b": bool>'),
    ],
)
def test_type_may_be_written_with_other_spaces(written, name):
    assert canonical_type(written) == name


@pytest.mark.parametrize("written", ["", "int6", "int64x", "int64 int64", "list<", "list<int64", "list<>",
                                     "map<string>", "struct<a: int8>", "struct<1: int8>", "timestamp[h]", 
                                     "decimal(x)", "decimal(5, -2)",
                                     "null", 3, None])  # fmt: skip
def test_type_that_is_none_is_refused(written):
    with pytest.raises(InvalidInput, match="is no type"):
        canonical_type(written)


@pytest.mark.parametrize(("written", "meant"), [("double", "float64"), ("str", "string"), ("flaot64", "float64"),
                                                ("timestamp[s]", r"timestamp\[ms\]")])  # fmt: skip
def test_type_of_another_program_says_what_was_meant(written, meant):
    with pytest.raises(InvalidInput, match=f"did you mean {meant}"):
        canonical_type(written)


def test_table_that_differs_in_all_ways_is_refused_naming_each():
    with pytest.raises(InvalidInput) as caught:
        PRICES.check((("date", "timestamp[us]"), ("closing", "float64"), ("x", "bool")))
    assert str(caught.value) == (
        "the table 'prices' is not what the deployment's `schema` declares: missing 'close' (float64); 'date' is "
        "timestamp[us] instead of date; undeclared 'closing' (is it 'close'?); undeclared 'x'. Correct the table, or "
        "the declaration in prefect.yaml and deploy it"
    )


def test_table_with_other_columns_is_accepted_where_extra_ones_are_allowed():
    schema = (("x", "bool"), ("close", "float64"), ("date", "date"))
    DeclaredTable("prices", PRICES.columns, allows_extra=True).check(schema)
    with pytest.raises(InvalidInput, match="undeclared 'x'"):
        PRICES.check(schema)


@pytest.mark.parametrize(
    "write", [write_table, lambda *given, **options: upsert_table(*given, key=["date"], **options)]
)
def test_table_that_is_not_as_declared_is_refused_before_anything_is_stored(write):
    store = ObjectStore(f"memory://test-{new_id()}")
    dates = pa.array([1], pa.int32()).cast(pa.date32())
    base = write(store, pa.table({"date": dates, "close": [1.0]}), base=None, declared=PRICES)
    objects = list(store.list())
    rows = pa.table({"date": dates, "close": [1.0], "volume": [1]})
    with pytest.raises(InvalidInput, match="undeclared 'volume'"):
        write(store, rows, base=base, evolve=True, declared=PRICES)
    assert list(store.list()) == objects


def test_declaration_as_it_is_recorded_is_read():
    recorded = {"schema": {"a": {"columns": {"x": "bool"}, "extra": "allow"}, "b": {"columns": {"y": "date"}}}}
    assert declared_tables(recorded) == {
        "a": DeclaredTable("a", {"x": "bool"}, allows_extra=True),
        "b": DeclaredTable("b", {"y": "date"}),
    }
    assert declared_tables({}) == {}


def test_table_that_was_not_written_under_its_declared_name_is_refused():
    check_all_written(["prices"], [])
    check_all_written(["prices"], ["prices", "more"])
    with pytest.raises(InvalidInput, match="declares 'prices', which was not written; written: 'price'"):
        check_all_written(["prices"], ["price"])
