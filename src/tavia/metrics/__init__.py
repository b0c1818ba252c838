"""What the services count, for Prometheus. A module a room or seam; a process exposes the modules that it imports.

No label names a tenant or an object of one, and every label's values come from a closed set: what is counted here can
be shown to anybody, and the number of series does not grow with the number of load balancers.
"""
