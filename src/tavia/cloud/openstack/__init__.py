"""An OpenStack cloud: Nova, Neutron and Glance through openstacksdk. :func:`tavia.cloud.connect` makes it.

Imported only where the configuration names it: openstacksdk takes a quarter of a second and 12 MiB.
"""
