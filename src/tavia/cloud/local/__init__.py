"""The cloud of one machine: networks are bridges and servers are sandboxes, behind one daemon's socket."""
