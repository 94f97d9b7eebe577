"""Histories of listening: ListenBrainz, Last.fm, Spotify."""
