"""The whole pipeline under faults (``chaos``) and for long (``soak``): what was acknowledged is counted at the end."""
