"""Placements: which pictures a product shows, in which order, and which of its variants they are of (decision 52)."""
