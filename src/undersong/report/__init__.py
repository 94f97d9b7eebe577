"""A report of an evaluation, for the terminal and for files."""
