// A walk through the catalogue with the client that hey-api generated.
// Run it against `make run`, or against the server at API_URL: node hey-api.ts
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";

import { client } from "./build/hey-api/client.gen.ts";
import {
  createImport,
  createProduct,
  listCategories,
  listEvents,
  listProducts,
  logIn,
  readImport,
  recordStockMovement,
  updateProduct,
} from "./build/hey-api/index.ts";

client.setConfig({ baseUrl: process.env.API_URL ?? "http://127.0.0.1:8000" });

/** What a successful answer holds; a refusal ends the program. */
function dataOf<T>({ data, error }: { data: T | undefined; error: unknown }): T {
  if (data === undefined) throw new Error(JSON.stringify(error));
  return data;
}

// Log in. From now on every request that needs it carries the access token.
const { access_token } = dataOf(
  await logIn({ body: { email: "editor@example.com", password: "demo-editor-password" } }),
);
client.setConfig({ auth: ({ scheme }) => (scheme === "bearer" ? access_token : undefined) });

// Take a cursor of the change feed before anything changes.
const start = dataOf(await listEvents({ query: { from: "now" } }));

// Filter and sort.
const cheap = dataOf(
  await listProducts({ query: { in_stock: true, max_price: "100.00", sort_by: "price", order: "asc" } }),
);
console.log(`${cheap.meta.total} products below 100.00; the cheapest is ${cheap.items[0]?.name}`);

// Walk the whole catalogue, page by page; an empty cursor starts.
const seen = new Set<number>();
let cursor = "";
do {
  const { items, meta } = dataOf(await listProducts({ query: { cursor, per_page: 50 } }));
  for (const { id } of items) seen.add(id);
  cursor = meta.next_cursor ?? "";
} while (cursor);
console.log(`${seen.size} products in all`);

// Create. The retry with the same Idempotency-Key gets the first answer, and creates nothing.
const sku = `LAMP-${crypto.randomUUID()}`;
const [category] = dataOf(await listCategories()).items;
assert(category);
const order = {
  headers: { "Idempotency-Key": `create-${sku}` },
  body: { name: "Reading lamp", price: "49.90", category_id: category.id, sku, stock: 5 },
};
const created = await createProduct(order);
const retried = await createProduct(order);
const lamp = dataOf(created);
assert.equal(dataOf(retried).id, lamp.id);
assert.equal(retried.response?.headers.get("Idempotency-Replayed"), "true");

// Edit what was read: If-Match names its version.
const etag = created.response?.headers.get("ETag");
assert(etag);
const read = { path: { product_id: lamp.id }, headers: { "If-Match": etag } };
const edited = dataOf(await updateProduct({ ...read, body: { price: "44.90" } }));
assert.equal(edited.price, "44.90");

// 412: the product has changed since it was read. Read it again, and decide again.
const stale = await updateProduct({ ...read, body: { price: "39.90" } });
assert(stale.error?.code === "precondition_failed");

// 409: each refusal says what it is about, and `code` tells its type.
const sale = await recordStockMovement({ path: read.path, body: { delta: -6, reason: "sale" } });
assert(sale.error?.code === "out_of_stock");
assert.equal(sale.error.available, 5);

// 422: every fault has the place that it is about.
const faulty = await createProduct({ body: { ...order.body, price: "49.905" } });
assert(faulty.error?.code === "too_precise");
console.log(faulty.error.errors.map(({ pointer, detail }) => `${pointer}: ${detail}`));

// Import a file, and follow it to its end.
const rows = `sku,name,price,category\n${sku},Reading lamp,42.50,${category.name}\n`;
const file = new File([rows], "lamps.csv", { type: "text/csv" });
let job = dataOf(await createImport({ body: { file } }));
while (job.status === "queued" || job.status === "running") {
  await sleep(100);
  job = dataOf(await readImport({ path: { import_id: job.id } }));
}
assert.equal(job.status, "succeeded");
assert.equal(job.updated, 1);

// Read what has changed since. The product was created, edited and imported; `data` is how it is now.
const changesSince = (cursor: string) => listEvents({ query: { cursor } });
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
  const { error, response } = await logIn({ body: { email: `${sku}@example.com`, password: "a guess" } });
  if (error?.code === "rate_limited") {
    console.log(`${error.code}: log in again in ${response?.headers.get("Retry-After")} seconds`);
    break;
  }
  assert(error?.code === "login_failed");
}
