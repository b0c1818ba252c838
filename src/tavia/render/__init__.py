"""Tree to configuration: haproxy.cfg, keepalived.conf and the bundle around them. Pure."""
