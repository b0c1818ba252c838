"""The one loop: desired and observed, a plan, its steps."""
