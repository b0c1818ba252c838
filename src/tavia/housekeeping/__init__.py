"""Purges, orphans, certificate rotation."""
