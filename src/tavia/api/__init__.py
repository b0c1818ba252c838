"""HTTP: the Octavia v2 API."""
