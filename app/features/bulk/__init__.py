"""Many products at once: created and updated by their sku, in batches of clients and in imports."""
