"""The `tavia` command."""
