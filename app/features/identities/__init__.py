"""Logins with identity providers (OpenID Connect): who their subjects are here, and how browsers and apps log in."""
