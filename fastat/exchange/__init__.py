"""Results on their way to others and back: one run as a folder, a grid's evidence as an archive."""
