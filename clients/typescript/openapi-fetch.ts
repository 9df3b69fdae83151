// A walk through the catalogue with openapi-fetch, on types that openapi-typescript generated.
// Run it against `make run`, or against the server at API_URL: node openapi-fetch.ts
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

import createClient from "openapi-fetch";

import type { paths } from "./build/schema.ts";

const api = createClient<paths>({ baseUrl: process.env.API_URL ?? "http://127.0.0.1:8000" });

/** What a successful answer holds; a refusal ends the program. */
function dataOf<T>(answer: { data?: T; error?: unknown }): T {
  if (answer.data === undefined) throw new Error(JSON.stringify(answer.error));
  return answer.data;
}

/** The version that an update of this answer names. */
function etagOf({ headers }: Response): string {
  const etag = headers.get("ETag");
  assert(etag);
  return etag;
}

// Log in. From now on every request carries the access token.
const { access_token } = dataOf(
  await api.POST("/api/v1/auth/login", { body: { email: "editor@example.com", password: "demo-editor-password" } }),
);
api.use({ onRequest: ({ request }) => request.headers.set("Authorization", `Bearer ${access_token}`) });

// Take a cursor of the change feed before anything changes.
const start = dataOf(await api.GET("/api/v1/events", { params: { query: { from: "now" } } }));

// Filter and sort.
const cheap = dataOf(
  await api.GET("/api/v1/products", {
    params: { query: { in_stock: true, max_price: "100.00", sort_by: "price", order: "asc" } },
  }),
);
console.log(`${cheap.meta.total} products below 100.00; the cheapest is ${cheap.items[0]?.name}`);

// Walk the whole catalogue, page by page; an empty cursor starts.
const seen = new Set<number>();
let cursor = "";
do {
  const { items, meta } = dataOf(await api.GET("/api/v1/products", { params: { query: { cursor, per_page: 50 } } }));
  for (const { id } of items) seen.add(id);
  cursor = meta.next_cursor ?? "";
} while (cursor);
console.log(`${seen.size} products in all`);

// Create. The retry with the same Idempotency-Key gets the first answer, and creates nothing.
const sku = `LAMP-${crypto.randomUUID()}`;
const [category] = dataOf(await api.GET("/api/v1/categories")).items;
assert(category);
const order = {
  params: { header: { "Idempotency-Key": `create-${sku}` } },
  body: { name: "Reading lamp", price: "49.90", category_id: category.id, sku, stock: 5 },
};
const created = await api.POST("/api/v1/products", order);
const retried = await api.POST("/api/v1/products", order);
const lamp = dataOf(created);
assert.equal(dataOf(retried).id, lamp.id);
assert.equal(retried.response.headers.get("Idempotency-Replayed"), "true");

// Edit what was read: If-Match names its version.
const path = { product_id: lamp.id };
const read = { path, header: { "If-Match": etagOf(created.response) } };
const edited = dataOf(await api.PATCH("/api/v1/products/{product_id}", { params: read, body: { price: "44.90" } }));
assert.equal(edited.price, "44.90");

// 412: the product has changed since it was read. Read it again, and decide again.
const stale = await api.PATCH("/api/v1/products/{product_id}", { params: read, body: { price: "39.90" } });
assert(stale.error?.code === "precondition_failed");

// 409: each refusal says what it is about, and `code` tells its type.
const sale = await api.POST("/api/v1/products/{product_id}/stock-movements", {
  params: { path },
  body: { delta: -6, reason: "sale" },
});
assert(sale.error?.code === "out_of_stock");
assert.equal(sale.error.available, 5);

// 422: every fault has the place that it is about.
const faulty = await api.POST("/api/v1/products", { body: { ...order.body, price: "49.905" } });
assert(faulty.error?.code === "too_precise");
console.log(faulty.error.errors.map(({ pointer, detail }) => `${pointer}: ${detail}`));

// Import a file, and follow it to its end.
const rows = `sku,name,price,category\n${sku},Reading lamp,42.50,${category.name}\n`;
const file = new File([rows], "lamps.csv", { type: "text/csv" });
const form = new FormData();
form.set("file", file);
let job = dataOf(await api.POST("/api/v1/imports", { body: { file }, bodySerializer: () => form }));
while (job.status === "queued" || job.status === "running") {
  await sleep(100);
  job = dataOf(await api.GET("/api/v1/imports/{import_id}", { params: { path: { import_id: job.id } } }));
}
assert.equal(job.status, "succeeded");
assert.equal(job.updated, 1);

// Read what has changed since. The product was created, edited and imported; `data` is how it is now.
const changesSince = (cursor: string) => api.GET("/api/v1/events", { params: { query: { cursor } } });
const changes: string[] = [];
let feed = dataOf(await changesSince(start.meta.next_cursor));
while (feed.items.length) {
  for (const event of feed.items) {
    if (event.resource_type === "product" && event.data?.sku === sku) changes.push(`${event.type}, ${event.data.price}`);
  }
  feed = dataOf(await changesSince(feed.meta.next_cursor));
}
assert.deepEqual(changes, ["product.created, 42.50", "product.updated, 42.50", "product.updated, 42.50"]);

// 429: wait as long as Retry-After says.
for (;;) {
  const attempt = await api.POST("/api/v1/auth/login", { body: { email: `${sku}@example.com`, password: "a guess" } });
  if (attempt.error?.code === "rate_limited") {
    console.log(`${attempt.error.code}: log in again in ${attempt.response.headers.get("Retry-After")} seconds`);
    break;
  }
  assert(attempt.error?.code === "login_failed");
}
