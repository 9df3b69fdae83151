// An identity provider on the loopback: npm's oidc-provider with its own pages, and a path by which a test changes it.
//
// The only argument is JSON: {issuer, client: {...}, accounts: {subject: claims}}.
// GET /control answers {requests: {path: count}}. POST /control takes an object with any of
//   accounts     claims by subject, which replace those of the accounts
//   rotate       "RS256" or "ES256": the signing key is replaced by another
//   conform      whether claims of scopes are at the userinfo endpoint alone (OpenID Connect Core 1.0 section 5.4)
//   forge        {claims, header, key}, or null for an end: each ID token is changed after it was made, in its claims
//                (null removes one), its header, and the key that signs it, which is "current", one that is
//                "unpublished", the client's "secret" (HS256) or "none"

import { Buffer } from "node:buffer";
import { createHmac, generateKeyPairSync, randomUUID, sign } from "node:crypto";
import { createServer } from "node:http";

import Provider from "oidc-provider";

const { issuer, client, accounts } = JSON.parse(process.argv[2]);
const { hostname, port } = new URL(issuer);
const requests = {};
const cookieKey = randomUUID();
let forge = null;
let conformIdTokenClaims = false;
let key, handle;

const encode = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
const decode = (part) => JSON.parse(Buffer.from(part, "base64url"));

function makeKey(alg) {
  const { privateKey } =
    alg === "RS256"
      ? generateKeyPairSync("rsa", { modulusLength: 2048 })
      : generateKeyPairSync("ec", { namedCurve: "P-256" });
  return { alg, privateKey, kid: randomUUID() };
}

function signatureOf(content, by) {
  if (by === "none") return "";
  if (by === "secret") return createHmac("sha256", client.client_secret).update(content).digest("base64url");
  const { privateKey } = by === "unpublished" ? makeKey(key.alg) : key;
  return sign("sha256", Buffer.from(content), { key: privateKey, dsaEncoding: "ieee-p1363" }).toString("base64url");
}

function forged(token) {
  const [header, claims] = token.split(".").slice(0, 2).map(decode);
  const changed = Object.entries({ ...claims, ...forge.claims }).filter(([, value]) => value !== null);
  const by = forge.key ?? "current";
  const alg = { none: "none", secret: "HS256" }[by] ?? header.alg;
  const content = `${encode({ ...header, alg, ...forge.header })}.${encode(Object.fromEntries(changed))}`;
  return `${content}.${signatureOf(content, by)}`;
}

// A provider anew, since oidc-provider reads its settings once; its sessions, which are in memory, end.
function start() {
  const provider = new Provider(issuer, {
    claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "groups"] },
    clients: [{ ...client, id_token_signed_response_alg: key.alg }],
    conformIdTokenClaims,
    cookies: { keys: [cookieKey] },
    features: { backchannelLogout: { enabled: true } },
    // It keeps to public addresses by a dispatcher, and this server and its client are on the loopback.
    fetch: (url, { dispatcher: _, ...options }) => fetch(url, options),
    findAccount: (_, sub) => accounts[sub] && { accountId: sub, claims: () => ({ sub, ...accounts[sub] }) },
    jwks: { keys: [{ ...key.privateKey.export({ format: "jwk" }), kid: key.kid, alg: key.alg, use: "sig" }] },
    pkce: { required: () => true },
  });
  provider.use(async (ctx, next) => {
    await next();
    // The pages load a font from elsewhere.
    ctx.set("Content-Security-Policy", "default-src 'self' 'unsafe-inline'");
    if (ctx.path === "/token" && forge && ctx.body?.id_token) {
      ctx.body = { ...ctx.body, id_token: forged(ctx.body.id_token) };
    }
  });
  for (const event of ["server_error", "grant.error", "authorization.error", "backchannel.error"]) {
    provider.on(event, (_, error) => console.error(event, error));
  }
  handle = provider.callback();
}

async function control(request, response) {
  if (request.method === "POST") {
    const order = JSON.parse(await request.reduce((text, chunk) => text + chunk, ""));
    Object.assign(accounts, order.accounts);
    if ("forge" in order) forge = order.forge;
    if (order.rotate) key = makeKey(order.rotate);
    if ("conform" in order) conformIdTokenClaims = order.conform;
    if (order.rotate || "conform" in order) start();
  }
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify({ requests, kid: key.kid }));
}

key = makeKey("RS256");
start();
createServer((request, response) => {
  const { pathname } = new URL(request.url, issuer);
  if (pathname === "/control") return control(request, response);
  requests[pathname] = (requests[pathname] ?? 0) + 1;
  return handle(request, response);
}).listen(Number(port), hostname);
