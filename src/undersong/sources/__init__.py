"""One file per outside format, each ending in a catalogue."""
