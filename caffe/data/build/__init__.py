"""From people's folders, lists and annotations to LMDBs."""
