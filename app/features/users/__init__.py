"""People: who they are and what role they have. E-mail addresses and usernames are unique whatever their case."""
