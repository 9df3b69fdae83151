"""Security: the access policy, identities, passwords, tokens and keys; no Flask."""
