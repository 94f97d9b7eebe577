"""What is known (section 3.1): artists, tracks, plays, relations, metadata, features."""
