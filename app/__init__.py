"""A product-catalogue REST API: browse, search and edit products and their categories over HTTP."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.factory import create_app

__all__ = ["create_app"]


def __getattr__(name: str) -> Any:  # of any name: PEP 562
    """Import `create_app` when it is asked for: gunicorn's master needs some modules, and not the whole application."""
    if name != "create_app":
        raise AttributeError(name)
    from app.factory import create_app  # noqa: PLC0415 -- not before it is asked for

    return create_app
