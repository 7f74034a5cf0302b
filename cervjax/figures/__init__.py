"""Pictures of scans and masks: to check by eye, Figures 1 and 2 of the paper."""
