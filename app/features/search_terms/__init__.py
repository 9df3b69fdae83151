"""Search terms: how often each was searched for in a week, and how often nothing was found. Nothing of who searched.

Each process counts in memory, and stores what it has counted every SEARCH_TERMS_INTERVAL seconds. A term that may be
about a person, an address or a secret is not counted, and one that was searched for once in a week is not shown.
"""
