"""Passwords: changing your own, and resetting it by mail. Each ends the sessions that were open before."""
