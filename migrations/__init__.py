"""Migrations: Alembic through Flask-Migrate. What several of them need is imported from here."""
