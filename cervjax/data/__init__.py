"""Training data: scans, cache, windows, augmentation."""
