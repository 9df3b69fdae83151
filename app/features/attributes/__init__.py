"""Attributes: what can be said of products beside their members, with a type and perhaps a closed set of choices."""
