"""Where a replay's records come from. Each source gives the same records in the same order each time it is read."""
