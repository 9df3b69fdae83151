"""The OAuth 2 authorization server: tokens for API keys and apps of third parties, and the page that asks people."""
