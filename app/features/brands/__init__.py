"""Brands: who makes what is for sale. Names are unique; a brand that products refer to cannot be deleted."""
