"""From folders, lists and annotations to LMDBs."""
