"""Generated catalogues: the world of the demo, and a twin of any catalogue."""
