"""OAuth clients: apps of third parties that people let act for them, and what each may ask for."""
