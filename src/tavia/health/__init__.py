"""Heartbeats in, statuses and repairs out."""
