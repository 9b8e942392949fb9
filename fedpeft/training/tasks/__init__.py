"""The tasks: text against label names, text with a linear head, and the user's own loss."""
