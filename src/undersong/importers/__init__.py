"""A package for each kind of outside format, each ending in a catalogue."""
