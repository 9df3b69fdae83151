"""Imports: products from CSV and NDJSON files, upserted by sku; a bad row is told with its line and stops no other."""
