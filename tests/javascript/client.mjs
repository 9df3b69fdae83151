// An application that uses the catalogue by npm's openid-client, a stock OAuth client. It knows the issuer alone.
//
// The only argument is JSON: {issuer, client_id, client_secret?, scope, redirect_uri?}. With a redirect URI it prints
// {authorization_url} and waits for a line with the address that the browser was sent back to (code and PKCE); without,
// it uses client credentials. Then it reads products and users, refreshes, introspects and revokes, and prints what
// it saw as the last line; or {refused}, where the address has an error.

import { createInterface } from "node:readline/promises";

import * as oauth from "openid-client";

const { issuer, client_id, client_secret, scope, redirect_uri } = JSON.parse(process.argv[2]);
const print = (content) => console.log(JSON.stringify(content));

const config = await oauth.discovery(
  new URL(issuer),
  client_id,
  undefined,
  client_secret ? oauth.ClientSecretBasic(client_secret) : oauth.None(),
  { algorithm: "oauth2", execute: [oauth.allowInsecureRequests] },
);

async function status(path, token) {
  const url = new URL(path, issuer);
  try {
    return (await oauth.fetchProtectedResource(config, token, url, "GET")).status;
  } catch (failure) {
    // It raises where the answer has a challenge.
    if (failure instanceof oauth.WWWAuthenticateChallengeError) return failure.status;
    throw failure;
  }
}

async function authorize() {
  const code_verifier = oauth.randomPKCECodeVerifier();
  const state = oauth.randomState();
  const url = oauth.buildAuthorizationUrl(config, {
    redirect_uri,
    scope,
    state,
    code_challenge: await oauth.calculatePKCECodeChallenge(code_verifier),
    code_challenge_method: "S256",
  });
  print({ authorization_url: url.href });
  const lines = createInterface({ input: process.stdin });
  const { value: callback } = await lines[Symbol.asyncIterator]().next();
  lines.close();
  return oauth.authorizationCodeGrant(config, new URL(callback), {
    pkceCodeVerifier: code_verifier,
    expectedState: state,
  });
}

const seen = { metadata: config.serverMetadata() };
let tokens = await (redirect_uri ? authorize() : oauth.clientCredentialsGrant(config, { scope })).catch((failure) => {
  if (!(failure instanceof oauth.AuthorizationResponseError)) throw failure;
  print({ refused: failure.error });
  process.exit();
});
seen.granted = { token_type: tokens.token_type, expires_in: tokens.expires_in, scope: tokens.scope };
seen.has_refresh_token = tokens.refresh_token !== undefined;
seen.products = await status("/api/v1/products", tokens.access_token);
seen.users = await status("/api/v1/users", tokens.access_token);

if (tokens.refresh_token) {
  tokens = await oauth.refreshTokenGrant(config, tokens.refresh_token);
  seen.after_refresh = await status("/api/v1/products", tokens.access_token);
}
if (client_secret) seen.introspected = await oauth.tokenIntrospection(config, tokens.access_token);

seen.revocation = await oauth.tokenRevocation(config, tokens.refresh_token ?? tokens.access_token).then(
  () => "done",
  (failure) => failure.error,
);
seen.after_revocation = await status("/api/v1/products", tokens.access_token);
if (client_secret) seen.introspected_after_revocation = await oauth.tokenIntrospection(config, tokens.access_token);
if (tokens.refresh_token) {
  seen.refresh_after_revocation = await oauth.refreshTokenGrant(config, tokens.refresh_token).then(
    () => "granted",
    (failure) => failure.error,
  );
}
print(seen);
