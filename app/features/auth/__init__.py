"""Authentication: one session per login, access tokens that name it, and single-use refresh tokens."""
