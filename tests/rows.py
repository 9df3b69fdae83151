"""A row of every table, for tests that write past the application."""

from typing import Any

MOMENT = "2026-05-17 12:00:00+00:00"
STAMPS = {"created_at": MOMENT, "updated_at": MOMENT, "version": 1}

#: A row of each table that fits; parents first.
ROWS: dict[str, dict[str, Any]] = {
    "users": {
        "id": 1,
        "email": "bob@example.com",
        "username": "bob",
        "password_hash": "",
        "role": "user",
        "is_active": True,
        "epoch": 0,
        "search_text": "bob",
        **STAMPS,
    },
    "sessions": {
        "id": 1,
        "user_id": 1,
        "device": "",
        "address": "",
        "created_at": MOMENT,
        "last_seen_at": MOMENT,
        "expires_at": MOMENT,
    },
    "refresh_tokens": {"id": "token", "session_id": 1, "issued_at": MOMENT, "expires_at": MOMENT},
    "categories": {"id": 1, "name": "c", "slug": "c", "search_text": "c", **STAMPS},
    "catalogue_state": {"id": 1, "version": 1, "pruned_through": 0},
    "change_events": {
        "id": 1,
        "created_at": MOMENT,
        "type": "product.created",
        "resource_type": "product",
        "resource_id": 1,
        "row_version": 1,
    },
    "products": {
        "id": 1,
        "sku": "A-1",
        "name": "p",
        "description": "",
        "price": 1,
        "currency": "USD",
        "category_id": 1,
        "stock": 0,
        "status": "active",
        "tags": "[]",
        "attributes": "{}",
        "search_text": "p",
        **STAMPS,
    },
    "stock_movements": {
        "id": 1,
        "product_id": 1,
        "delta": 1,
        "reason": "receipt",
        "stock_after": 1,
        "created_at": MOMENT,
    },
    "holds": {
        "id": 1,
        "product_id": 1,
        "quantity": 1,
        "expires_at": MOMENT,
        "created_at": MOMENT,
        "updated_at": MOMENT,
    },
    "login_failures": {"account": "0" * 64, "failures": 1, "first_at": MOMENT},
    "api_keys": {
        "id": 1,
        "user_id": 1,
        "name": "k",
        "scopes": "[]",
        "secret_hash": "0" * 64,
        "last_four": "abcd",
        **STAMPS,
    },
    "idempotency_keys": {
        "principal": "user:1",
        "route": "POST /api/v1/products",
        "key": "k",
        "fingerprint": "0" * 64,
        "status": 201,
        "headers": "{}",
        "body": b"{}",
        "expires_at": MOMENT,
    },
    "audit_events": {"id": 1, "created_at": MOMENT, "action": "user.created", "resource_type": "user"},
}
