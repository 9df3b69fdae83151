"""Clients of other servers: the message broker, the mail server, and any that speaks HTTP."""
