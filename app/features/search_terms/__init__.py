"""Search terms: how often each was searched for in a week, and how often nothing was found. Nothing of who searched.

Each process counts in memory, and stores what it has counted every SEARCH_TERMS_INTERVAL seconds. What looks like an
address, a long number or a secret is not counted, and a term that was searched for once in a week is not shown. A name
cannot be recognised, and one person who searches twice is enough for a term to be shown.
"""
