"""A reference that no model has, for tests of what holds for any reference."""

import pytest
from sqlalchemy import Column, MetaData, Table

from app.core import references
from app.core.errors import Invalid
from app.core.references import Reference, refers_to


class SupplierUnknown(Invalid):
    """There is no such supplier."""

    pointer = "/supplier_id"


def let_stock_refer_to_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the stock of a product for the id of a user, as if the model declared so after its category."""
    stock: Column[int] = Column("stock", refers_to("users.id", unknown=SupplierUnknown))
    Table("products", MetaData(), stock)
    Table("users", stock.table.metadata, Column("id", primary_key=True))
    (key,) = stock.foreign_keys
    real = references.references_of
    monkeypatch.setattr(references, "references_of", lambda model: [*real(model), Reference(key)])
