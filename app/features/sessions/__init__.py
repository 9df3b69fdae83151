"""Sessions: one per login. Its tokens name it and are refused once it has ended; each refresh token works once."""
