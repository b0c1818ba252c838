"""Tavia: load balancing as a service for OpenStack."""
