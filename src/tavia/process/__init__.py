"""What the processes of all four controllers have in common: presence, reload, an end in time."""
