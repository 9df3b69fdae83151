"""Sample data: the demo catalogue of a home and garden shop, and any number of generated products."""
