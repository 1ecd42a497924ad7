"""Whether the nets of a folder build and run here, each in a process of its own, and what is missing for the others."""
