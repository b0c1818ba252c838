"""A cloud that accepts everything and makes nothing: API conformance and control-plane benchmarks."""
