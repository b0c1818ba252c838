"""What runs inside the amphora: takes bundles, supervises HAProxy and keepalived, sends heartbeats."""
