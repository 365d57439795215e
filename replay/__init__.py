"""History is repeated: a stretch of a topic, a file or the history goes through the same code again."""
