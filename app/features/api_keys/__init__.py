"""API keys: what programs log in with. A key can do what its owner's role and its scopes both allow."""
