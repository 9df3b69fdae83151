"""Clients of other servers: the message broker and the mail server."""
