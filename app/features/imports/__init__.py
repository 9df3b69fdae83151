"""Imports: products from CSV and NDJSON files, upserted by sku; a bad row is reported by line and stops no other."""
