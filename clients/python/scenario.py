"""A walk through the catalogue with the client that openapi-python-client generated.

Run it against `make run`, or against the server at API_URL: PYTHONPATH=build python scenario.py
"""

import io
import os
import time
from typing import TypeVar
from uuid import uuid4

from catalog_client import AuthenticatedClient, Client
from catalog_client.api.auth import log_in
from catalog_client.api.categories import list_categories
from catalog_client.api.events import list_events
from catalog_client.api.imports import create_import, read_import
from catalog_client.api.products import create_product, list_products, update_product
from catalog_client.api.stock import record_stock_movement
from catalog_client.models import (
    CategoryList,
    Feed,
    Import,
    ImportOptionsForm,
    Login,
    MovementCreate,
    OutOfStockProblem,
    PreconditionFailedProblem,
    Product,
    ProductChangeEvent,
    ProductCreate,
    ProductList,
    ProductUpdate,
    RateLimitedProblem,
    TokenPair,
    TooPreciseProblem,
)
from catalog_client.types import File

URL = os.environ.get("API_URL", "http://127.0.0.1:8000")
Kind = TypeVar("Kind")


def expect(kind: type[Kind], answer: object) -> Kind:
    """What was answered, where it is of this kind; anything else ends the program."""
    if not isinstance(answer, kind):
        raise SystemExit(f"This is no {kind.__name__}: {answer}")
    return answer


# Log in. From now on every request carries the access token.
login = Login(email="editor@example.com", password="demo-editor-password")
pair = expect(TokenPair, log_in.sync(client=Client(base_url=URL), body=login))
api = AuthenticatedClient(base_url=URL, token=pair.access_token)

# Take a cursor of the change feed before anything changes.
cursor = expect(Feed, list_events.sync(client=api, from_="now")).meta.next_cursor

# Filter and sort.
cheap = expect(
    ProductList, list_products.sync(client=api, in_stock=True, max_price="100.00", sort_by="price", order="asc")
)
print(f"{cheap.meta.total} products below 100.00; the cheapest is {cheap.items[0].name}")

# Walk the whole catalogue, page by page; an empty cursor starts.
seen: set[int] = set()
here: str | None = ""
while here is not None:
    page = expect(ProductList, list_products.sync(client=api, cursor=here, per_page=50))
    seen |= {product.id for product in page.items}
    here = page.meta.next_cursor or None
print(f"{len(seen)} products in all")

# Create. The retry with the same Idempotency-Key gets the first answer, and creates nothing.
sku = f"LAMP-{uuid4()}"
category = expect(CategoryList, list_categories.sync(client=api)).items[0]
new = ProductCreate(name="Reading lamp", price="49.90", category_id=category.id, sku=sku, stock=5)
created = create_product.sync_detailed(client=api, body=new, idempotency_key=f"create-{sku}")
retried = create_product.sync_detailed(client=api, body=new, idempotency_key=f"create-{sku}")
lamp = expect(Product, created.parsed)
assert expect(Product, retried.parsed).id == lamp.id
assert retried.headers["Idempotency-Replayed"] == "true"

# Edit what was read: If-Match names its version.
etag = created.headers["ETag"]
edited = update_product.sync(lamp.id, client=api, if_match=etag, body=ProductUpdate(price="44.90"))
assert expect(Product, edited).price == "44.90"

# 412: the product has changed since it was read. Read it again, and decide again.
stale = update_product.sync(lamp.id, client=api, if_match=etag, body=ProductUpdate(price="39.90"))
assert expect(PreconditionFailedProblem, stale).status == 412

# 409: each refusal is a class, with the members that say what it is about.
sale = record_stock_movement.sync(lamp.id, client=api, body=MovementCreate(delta=-6, reason="sale"))
assert expect(OutOfStockProblem, sale).available == 5

# 422: every fault has the place that it is about.
new.price = "49.905"
faulty = expect(TooPreciseProblem, create_product.sync(client=api, body=new))
print([f"{fault.pointer}: {fault.detail}" for fault in faulty.errors])

# Import a file, and follow it to its end.
rows = f"sku,name,price,category\n{sku},Reading lamp,42.50,{category.name}\n"
file = File(payload=io.BytesIO(rows.encode()), file_name="lamps.csv", mime_type="text/csv")
job = expect(Import, create_import.sync(client=api, body=ImportOptionsForm(file=file)))
while job.status in {"queued", "running"}:
    time.sleep(0.1)
    job = expect(Import, read_import.sync(job.id, client=api))
assert (job.status, job.updated) == ("succeeded", 1)

# Read what has changed since. The product was created, edited and imported; `data` is how it is now.
changes = []
while (feed := expect(Feed, list_events.sync(client=api, cursor=cursor))).items:
    changes += [
        (event.type_, event.data.price)
        for event in feed.items
        if isinstance(event, ProductChangeEvent) and event.data and event.data.sku == sku
    ]
    cursor = feed.meta.next_cursor
assert changes == [("product.created", "42.50"), ("product.updated", "42.50"), ("product.updated", "42.50")]

# 429: wait as long as Retry-After says.
guess = Login(email=f"{sku}@example.com", password="a guess")
while (attempt := log_in.sync_detailed(client=Client(base_url=URL), body=guess)).status_code == 401:
    pass
print(f"{expect(RateLimitedProblem, attempt.parsed).code}: again in {attempt.headers['Retry-After']} seconds")
