"""The service: answers over HTTP, in its own words and in those of other programs."""
