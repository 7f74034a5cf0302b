"""Files: which form a scan, images and their geometry, labels, tables."""
