"""History is seen: queries become figures, figures become pages."""
