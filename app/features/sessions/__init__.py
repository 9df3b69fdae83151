"""Sessions: one for each login, and one for each grant to an app.

Its tokens name it and are refused once it has ended; each refresh token works once.
"""
