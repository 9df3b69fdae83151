"""How many of the products found there are by category, brand, tag, price, stock, status and attributes."""
