"""A product-catalogue REST API: browse, search and edit products and their categories over HTTP."""

from app.factory import create_app

__all__ = ["create_app"]
