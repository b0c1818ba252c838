"""What is cleaned up in the background: old rows, resources that no row names, amphorae that lag."""
