"""Sample products: the demo catalogue of a shop for home and garden, and generated ones by the million."""
