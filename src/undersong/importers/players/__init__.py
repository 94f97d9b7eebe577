"""Databases of players: Navidrome, beets."""
