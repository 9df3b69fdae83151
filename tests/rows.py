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
    "audit_events": {"id": 1, "created_at": MOMENT, "action": "user.created", "resource_type": "user"},
    "jobs": {
        "id": 1,
        "kind": "import",
        "payload": '{"format": "csv"}',
        "status": "queued",
        "due_at": MOMENT,
        "attempts": 0,
        "max_attempts": 5,
        "progress": "{}",
        "created_at": MOMENT,
    },
    "imports": {"id": 1, "user_id": 1, "job_id": 1, "size": 1, "created_at": MOMENT},
    "import_chunks": {"import_id": 1, "number": 0, "content": b"x"},
    "import_skus": {"import_id": 1, "sku": "A-1", "category": "c"},
    "import_faults": {"id": 1, "import_id": 1, "line": 1, "pointer": "", "code": "invalid", "detail": "d"},
}
