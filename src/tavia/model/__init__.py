"""What a load balancer is: resources, statuses, seams and faults.

Typed dataclasses without I/O. Every other package reads them; none of ours is imported here.
"""
