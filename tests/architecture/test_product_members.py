"""A member of a product is a column and a field in two schemas; the rest follows, or a test here says what to edit."""

import io
from collections.abc import Mapping
from typing import Any

import marshmallow as ma
import pytest

from app.core import clock
from app.core.changelog import Published
from app.core.fastsql import public_columns
from app.core.references import references_of
from app.extensions import Model
from app.features.bulk.schemas import ProductUpsertSchema
from app.features.exports.files import COLUMNS, NAMES, FileFormat, write_products
from app.features.imports.reading.files import read_rows
from app.features.imports.reading.options import Reading
from app.features.imports.row_schema import ImportRowSchema
from app.features.imports.rows import Row
from app.features.products.models import DEFAULTS, MEMBERS, PRODUCTS, Product, new_row
from app.features.products.schemas import (
    ProductCreateSchema,
    ProductReplaceSchema,
    ProductRowSchema,
    ProductSchema,
    ProductUpdateSchema,
)
from app.web.schemas import shared

MODEL = "app/features/products/models.py"
SCHEMAS = "app/features/products/schemas.py"
#: Members that a new product gets without a default of the table: the currency of the deployment, a sku from the id, a
#: slug from the name. A parent has its price of its variants.
GIVEN = {"currency", "sku", "slug", "price"}
#: What makes a product a parent, or places a variant among others (tests/features/products/test_variants.py).
FAMILY = {"options", "position", "variants"}

CREATE = shared(ProductCreateSchema).fields
#: What a product has whose every member says something, and one that is as empty as it can be.
FULL = {
    name: field.metadata["examples"][0]
    for name, field in shared(ProductSchema).fields.items()
    if name in CREATE.keys() - FAMILY and "examples" in field.metadata
}
EMPTY = {**FULL, **{name: default for name, default in DEFAULTS.items() if name in FULL}}


def names_of(schema: type[ma.Schema]) -> set[str]:
    return set(shared(schema).fields)


def read_as_values(members: Mapping[str, Any]) -> dict[str, Any]:
    """A product as a service has it."""
    values: dict[str, Any] = shared(ProductUpsertSchema).load(dict(members))
    return values


def import_back(name: str, members: Mapping[str, Any], file_format: FileFormat) -> Any:
    """What an import makes of one member in the file that an export writes; its faults where it is refused."""
    row: Any = {**dict.fromkeys(COLUMNS), **read_as_values(members), "category": "Chairs"}
    text = "".join(write_products([[row]], file_format))
    (read,) = read_rows(io.BytesIO(text.encode()), Reading(file_format=file_format)).rows
    assert isinstance(read, Row), read
    stated = {key: read.values[key] for key in {"sku", "category", name} & read.values.keys()}
    try:
        return shared(ImportRowSchema).load(stated).get(name, "nothing")
    except ma.ValidationError as error:
        return error.messages


class TestColumns:
    def test_are_answered(self) -> None:
        columns = {column.name for column in public_columns(Product)} - {"deleted_at"}

        assert columns - names_of(ProductSchema) == set(), (
            f"these columns of Product are in no answer: add them to ProductSchema in {SCHEMAS},"
            f" or mark them with info=UNAUDITED in {MODEL}"
        )
        assert names_of(ProductSchema) - columns == set(), (
            f"ProductSchema in {SCHEMAS} has members that are no columns of Product: add them in {MODEL},"
            " with a migration"
        )

    def test_are_all_in_a_new_row(self) -> None:
        row = new_row(dict.fromkeys(MEMBERS) | {"name": "", "sku": ""}, DEFAULTS, clock.now())

        assert row.keys() == {column.name for column in PRODUCTS.columns} - {"id", "parent_key"}, (
            f"new_row in {MODEL} must set each column of _SERVER_SET but the id:"
            " an insertion past the mapper sets no defaults"
        )

    def test_that_clients_write_are_members_of_a_new_product(self) -> None:
        assert set(MEMBERS) - names_of(ProductCreateSchema) == set(), (
            f"clients cannot write these columns: add them to ProductReplaceSchema in {SCHEMAS}, or to"
            f" ProductCreateSchema where only a new product takes them; if no client writes them, to _SERVER_SET in"
            f" {MODEL}"
        )
        assert names_of(ProductCreateSchema) - FAMILY - set(MEMBERS) == set(), (
            f"ProductCreateSchema in {SCHEMAS} has members that are no columns of Product, or are in"
            f" _SERVER_SET in {MODEL}"
        )


class TestSchemas:
    @pytest.mark.parametrize(
        ("schema", "members"),
        [
            (ProductUpdateSchema, names_of(ProductReplaceSchema)),
            (ProductUpsertSchema, names_of(ProductRowSchema) | {"parent_sku", "images"}),
            (ImportRowSchema, names_of(ProductRowSchema) | {*NAMES.values(), "kind", "parent_sku", "images"}),
        ],
    )
    def test_that_change_a_product_take_what_a_new_one_takes(self, schema: type[ma.Schema], members: set[str]) -> None:
        assert names_of(schema) == members, f"{schema.__name__} must inherit its members"

    @pytest.mark.parametrize("schema", [ProductUpdateSchema, ProductUpsertSchema, ImportRowSchema])
    def test_that_change_a_product_have_no_defaults(self, schema: type[ma.Schema]) -> None:
        fields = shared(schema).fields

        assert [name for name, field in fields.items() if field.load_default is not ma.missing] == [], (
            f"{schema.__name__} would reset these members where they are not stated: derive it from StatedSchema"
        )

    @pytest.mark.parametrize("name", sorted(CREATE.keys() - GIVEN - FAMILY))
    def test_agree_with_the_table_on_the_default(self, name: str) -> None:
        field = CREATE[name]
        default = field.load_default() if callable(field.load_default) else field.load_default

        assert field.required == (name not in DEFAULTS), (
            f"{name} must be required in ProductReplaceSchema ({SCHEMAS}) if its column in {MODEL} has no default and"
            " is not nullable, and only then: an import takes the column's"
        )
        assert field.required or default == DEFAULTS[name], (
            f"{name} defaults to {default!r} in {SCHEMAS} and to {DEFAULTS[name]!r} in {MODEL}: make them the same"
        )


class TestFiles:
    def test_have_every_member_the_names_of_other_rows_and_what_makes_a_family(self) -> None:
        assert set(COLUMNS) == {
            *MEMBERS,
            "category",
            "brand",
            "type",
            "kind",
            "parent_sku",
            "options",
            "position",
            "images",
        }

    @pytest.mark.parametrize("file_format", FileFormat)
    @pytest.mark.parametrize("members", [FULL, EMPTY], ids=["full", "empty"])
    @pytest.mark.parametrize("name", MEMBERS)
    def test_give_a_member_back(self, name: str, members: dict[str, Any], file_format: FileFormat) -> None:
        assert name in members, (
            f"{name} is not in ProductCreateSchema, or has no example in ProductSchema: see {SCHEMAS}"
        )
        assert import_back(name, members, file_format) == read_as_values(members)[name], (
            f"{name} changes when it is exported to {file_format} and imported again: write a value of its type in"
            " app/features/products/files.py, and read it by its field in app/features/imports/reading/cells.py"
        )


def published_models() -> list[Any]:
    found = (mapper.class_ for mapper in Model.registry.mappers if issubclass(mapper.class_, Published))
    return sorted(found, key=lambda model: model.__name__)


class TestReferences:
    @pytest.mark.parametrize("model", published_models(), ids=lambda model: model.__name__)
    def test_say_what_an_unknown_one_is_refused_with(self, model: type[Model]) -> None:
        declared = {reference.foreign_key for reference in references_of(model)}
        # Clients write neither of these: a path names the parent, and a worker finds that content is there already.
        unwritten = {"products.parent_id", "media_assets.merged_into_id"}
        foreign = model.metadata.tables[model.__tablename__].foreign_keys
        undeclared = {key for key in foreign if str(key.parent) not in unwritten} - declared

        assert {str(key.parent) for key in undeclared} == set(), (
            "declare these columns with refers_to(..., unknown=...) of app/core/references.py instead of ForeignKey:"
            " otherwise an unknown value fails the request, or a whole chunk of an import, with an IntegrityError"
        )

    @pytest.mark.parametrize("model", published_models(), ids=lambda model: model.__name__)
    def test_are_refused_at_their_member(self, model: type[Model]) -> None:
        for reference in references_of(model):
            assert reference.unknown.pointer == f"/{reference.member}", (
                f"{reference.unknown.__name__} must have the pointer of the member: clients and reports find it by that"
            )
