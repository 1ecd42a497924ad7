"""One page about one or several trained detectors: numbers, plots, images, and what to be careful about."""
