"""From files and databases to batches: label maps, annotations, records, augmentation, sources."""
