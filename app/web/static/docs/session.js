"use strict";

// The login of this page. The refresh token is in a cookie that no script can read and no other site can send
// (HttpOnly, SameSite=Strict); the access token is in memory alone. The browser's storage has only the e-mail address
// and the CSRF token, which is worth nothing without the cookie: with both, a reloaded page gets its next access token.
const session = {
  KEY: "catalog-session",
  RENEW_SECONDS: 60, // before the access token expires
  RETRY_SECONDS: 30, // after an attempt that said nothing about the session

  token: null,
  renewAt: Infinity,
  timer: undefined,
  changed: () => {}, // called with the session's e-mail address, or null without one
  arrived: null, // the CSRF token of a login with an identity provider that has led here
  refused: null, // the code of the reason why there is none

  // The fragment is for this page alone: Swagger UI would take it for an operation, and the history would keep it.
  arrive() {
    const left = new URLSearchParams(location.hash.slice(1));
    if (!left.has("csrf_token") && !left.has("error")) return;
    history.replaceState(null, "", location.pathname + location.search);
    this.arrived = left.get("csrf_token");
    // Anybody can make a link here, and have at most a word shown.
    this.refused = /^[a-z_]{1,40}$/.exec(left.get("error") ?? "")?.[0] ?? null;
  },

  async logIn(email, password) {
    const answer = await this.send("login", {
      headers: {"Content-Type": "application/json"},
      body: JSON.stringify({email, password, refresh_token_in: "cookie"}),
    });
    if (!answer.ok) throw await this.faultOf(answer);
    this.keep(email, await answer.json());
  },

  // Exchange the cookie for the next access token. Pages of several tabs share the cookie, so they take turns.
  // A lost network, 5xx and 429 say nothing about the session: then this throws, and a later attempt continues it.
  async restore() {
    const exchange = async () => {
      if (this.arrived && await this.begin()) return;
      const stored = this.stored();
      if (!stored) return this.forget();
      const answer = await this.send("refresh", {headers: {"X-CSRF-Token": stored.csrf_token}});
      if (answer.ok) return this.keep(stored.email, await answer.json());
      if (answer.status >= 429) throw await this.faultOf(answer);
      this.forget();
    };
    try {
      await (navigator.locks ? navigator.locks.request(this.KEY, exchange) : exchange());
    } catch (failure) {
      this.renewIn(this.RETRY_SECONDS);
      throw failure;
    }
  },

  // Take over the session of a login with an identity provider; a token that fits no cookie changes nothing.
  async begin() {
    const answer = await this.send("refresh", {headers: {"X-CSRF-Token": this.arrived}});
    if (answer.status >= 429) throw await this.faultOf(answer);
    this.arrived = null;
    if (!answer.ok) return false;
    const pair = await answer.json();
    const me = await fetch("api/v1/users/me", {headers: {Authorization: `Bearer ${pair.access_token}`}});
    this.keep((await me.json()).email, pair);
    return true;
  },

  // Nothing is forgotten before the server has ended the session, or does not know it any more: otherwise it throws.
  async logOut() {
    const send = () => this.send("logout", {headers: {Authorization: `Bearer ${this.token}`}});
    let answer = await send();
    if (answer.status === 401) {
      // The access token may have expired before the session.
      await this.restore();
      if (this.token) answer = await send();
    }
    if (!answer.ok && answer.status !== 401) throw await this.faultOf(answer);
    this.forget();
  },

  send(name, options) {
    return fetch(`api/v1/auth/${name}`, {method: "POST", ...options});
  },

  async faultOf(answer) {
    return new Error((await answer.json().catch(() => ({}))).detail ?? answer.statusText);
  },

  // What this page has stored; null without it, also where the browser denies the storage.
  stored() {
    return this.parse(this.inStorage((storage) => storage.getItem(this.KEY)));
  },

  // Another page of this host may have stored anything.
  parse(text) {
    try {
      const {email, csrf_token} = JSON.parse(text);
      return typeof csrf_token === "string" ? {email, csrf_token} : null;
    } catch {
      return null;
    }
  },

  inStorage(use) {
    try {
      return use(localStorage);
    } catch {
      return null;
    }
  },

  keep(email, pair) {
    const text = JSON.stringify({email, csrf_token: pair.csrf_token});
    this.inStorage((storage) => storage.setItem(this.KEY, text));
    this.token = pair.access_token;
    this.renewIn(Math.max(pair.expires_in - this.RENEW_SECONDS, pair.expires_in / 2));
    this.changed(email);
  },

  renewIn(seconds) {
    this.renewAt = Date.now() + seconds * 1000;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.renew(), seconds * 1000);
  },

  forget() {
    this.inStorage((storage) => storage.removeItem(this.KEY));
    this.token = null;
    this.renewAt = Infinity;
    clearTimeout(this.timer);
    this.changed(null);
  },

  // Timers stand still while a machine sleeps.
  renew() {
    if (Date.now() >= this.renewAt) this.restore().catch(() => {});
  },

  // What another tab did: it logged out, or logged in as somebody else.
  follow(event) {
    if (event.key !== this.KEY) return;
    const [before, now] = [event.oldValue, event.newValue].map((text) => this.parse(text)?.email);
    if (!now) this.forget();
    else if (now !== before) this.restore().catch(() => {});
  },
};

session.arrive();
addEventListener("storage", (event) => session.follow(event));
document.addEventListener("visibilitychange", () => session.renew());
