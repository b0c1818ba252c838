"""Alembic: the environment and the revisions."""
