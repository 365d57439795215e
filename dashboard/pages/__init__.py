"""Pages: a function a page. They ask queries, draw figures, and decide nothing."""
