"use strict";

// The login of this page. The refresh token is in a cookie that no script can read and no other site can send
// (HttpOnly, SameSite=Strict); the access token is in memory alone. The browser's storage has only the e-mail address
// and the CSRF token, which is worth nothing without the cookie: with both, a reloaded page gets its next access token.
const session = {
  KEY: "catalog-session",
  RENEW_SECONDS: 60, // before the access token expires

  token: null,
  renewAt: Infinity,
  timer: undefined,
  changed: () => {}, // called with the session's e-mail address, or null without one

  async logIn(email, password) {
    const answer = await this.send("login", {
      headers: {"Content-Type": "application/json"},
      body: JSON.stringify({email, password, refresh_token_in: "cookie"}),
    });
    if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? answer.statusText);
    this.keep(email, await answer.json());
  },

  // Exchange the cookie for the next access token. Pages of several tabs share the cookie, so they take turns.
  async restore() {
    const exchange = async () => {
      const stored = this.stored();
      if (!stored) return this.forget();
      const answer = await this.send("refresh", {headers: {"X-CSRF-Token": stored.csrf_token}});
      if (answer.ok) return this.keep(stored.email, await answer.json());
      // 5xx and 429 say nothing about the session, which a later attempt may continue.
      if (answer.status < 429) this.forget();
    };
    await (navigator.locks ? navigator.locks.request(this.KEY, exchange) : exchange());
  },

  async logOut() {
    await this.send("logout", {headers: {Authorization: `Bearer ${this.token}`}});
    this.forget();
  },

  send(name, options) {
    return fetch(`api/v1/auth/${name}`, {method: "POST", ...options});
  },

  stored() {
    return JSON.parse(localStorage.getItem(this.KEY));
  },

  keep(email, pair) {
    localStorage.setItem(this.KEY, JSON.stringify({email, csrf_token: pair.csrf_token}));
    this.token = pair.access_token;
    const seconds = Math.max(pair.expires_in - this.RENEW_SECONDS, pair.expires_in / 2);
    this.renewAt = Date.now() + seconds * 1000;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.renew(), seconds * 1000);
    this.changed(email);
  },

  forget() {
    localStorage.removeItem(this.KEY);
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
    const [before, now] = [event.oldValue, event.newValue].map((text) => JSON.parse(text)?.email);
    if (!now) this.forget();
    else if (now !== before) this.restore().catch(() => {});
  },
};

addEventListener("storage", (event) => session.follow(event));
document.addEventListener("visibilitychange", () => session.renew());
