"""The gate on the API's document: what would break a client of the last release is found, and must be decided.

`python -m compatibility` compares openapi.json with the newest document in docs/releases. It needs nothing but Python.
"""
