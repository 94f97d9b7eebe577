"""A folder of music files: their tags, names and places."""
