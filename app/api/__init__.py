"""The mount tables, one for each version of the API."""
