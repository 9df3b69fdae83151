"""How many of the products found there are by category, brand, tag, price, stock and status."""
