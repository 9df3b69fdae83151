// Writes build/schema.ts as `openapi-typescript` does, with a Blob where the document has the bytes of a file.
import { mkdir, writeFile } from "node:fs/promises";

import openapiTS, { astToString } from "openapi-typescript";
import ts from "typescript";

const schema = await openapiTS(new URL("../../openapi.json", import.meta.url), {
  defaultNonNullable: false, // a member with a default may be left out of a request
  transform: ({ format }) => (format === "binary" ? ts.factory.createTypeReferenceNode("Blob") : undefined),
});
await mkdir("build", { recursive: true });
await writeFile("build/schema.ts", astToString(schema));
