"""Published data sets: MusicBrainz, OLGA, HetRec, Deezer, MLHD."""
