"""API keys: the credentials of programs. A key has the permissions that its owner's role and its scopes both grant."""
