"""Heartbeats, operating statuses, and what is done about an amphora that stopped doing its work."""
