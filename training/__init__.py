"""The recipes that make the trained modules."""
