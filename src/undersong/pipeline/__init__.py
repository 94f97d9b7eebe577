"""From a catalogue to a published run."""
