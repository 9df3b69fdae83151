"""Products: what is for sale. A sku is unique among the living; a deleted product keeps its row and frees its sku.

A member of a product is a column of `models.Product`, with a migration, and a field of `ProductSchema` and of
`ProductReplaceSchema` (or of `ProductCreateSchema`, where only a new product takes it) in `schemas`. Updates, batches,
imports and exports follow from these; tests/architecture/test_product_members.py says what is missing. A column that
refers to another table says so with `core.references.refers_to`, and nothing else is needed to refuse unknown values.
"""
