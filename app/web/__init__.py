"""Everything that knows Flask, and nothing that knows products."""
