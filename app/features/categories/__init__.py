"""Categories: a tree. No category is its own ancestor, and none is deleted while something is filed under it."""
