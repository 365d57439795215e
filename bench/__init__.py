"""What it costs: a bound and ours, in one run."""
