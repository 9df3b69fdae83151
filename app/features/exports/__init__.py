"""All products that filters leave, as a file that an import takes back."""
