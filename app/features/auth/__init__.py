"""Logging in and out: a session per login, an access token that names it, refresh tokens that work once."""
