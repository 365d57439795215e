"""Who is told of a finding, when, how often, and when it is over."""
