"""SQL: tables made from the model, transactions, leases, the journal."""
