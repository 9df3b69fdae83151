"""Sessions: one for each login, named by its tokens, which die with it; refresh tokens that work once."""
