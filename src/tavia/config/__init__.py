"""oslo.config options with octavia.conf's own groups and names, a module a group."""
