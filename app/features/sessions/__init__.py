"""Sessions: one for each login, and one for each grant to an app.

The tokens of a session name it, and are refused once it has ended; each refresh token works once.
"""
