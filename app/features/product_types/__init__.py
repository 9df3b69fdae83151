"""Product types: which attributes products have, which of these they need, and by which their variants differ."""
