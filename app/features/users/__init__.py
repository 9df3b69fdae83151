"""User accounts and their roles. E-mail addresses and usernames are unique without regard to case."""
