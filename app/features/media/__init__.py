"""Media: pictures, kept once for each content, fetched or uploaded, and rendered by a worker (decision 52)."""
