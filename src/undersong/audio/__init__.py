"""From an audio file to log-mel frames (section 2.1)."""
