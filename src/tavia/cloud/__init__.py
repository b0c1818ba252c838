"""Where amphorae live: compute, network and image behind protocols, a folder per kind of cloud."""
