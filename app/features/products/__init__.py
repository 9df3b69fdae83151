"""Products: what is for sale. A sku is unique among the living; a deleted product keeps its row and frees its sku."""
