"""The two certificate authorities: one for amphorae (serverAuth), one for controllers (clientAuth)."""
