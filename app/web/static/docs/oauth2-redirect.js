"use strict";

// The page that asks people whether an app may act for them leads back here. The documentation page has opened this
// window, as Swagger UI does, and waits for the answer.
const answer = new URLSearchParams(location.search);
const asked = window.opener?.swaggerUIRedirectOauth2;

// The code is of no use without the verifier, which the other window has. It need not stay in the history all the same.
history.replaceState(null, "", location.pathname);

function take({auth, state, redirectUrl, callback, errCb}) {
  const refuse = (message) => errCb({authId: auth.name, source: "auth", level: "error", message});
  if (answer.get("state") !== state) {
    refuse("The answer is to another request: its state differs.");
  } else if (!answer.has("code")) {
    refuse([answer.get("error"), answer.get("error_description")].filter(Boolean).join(": "));
  } else {
    auth.code = answer.get("code");
    callback({auth, redirectUrl});
  }
}

if (asked) {
  // One answer to one request: this window can be reloaded.
  window.opener.swaggerUIRedirectOauth2 = null;
  take(asked);
  window.close();
}
