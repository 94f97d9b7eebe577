"""Files: whole or not at all, and one reader and writer for each kind."""
