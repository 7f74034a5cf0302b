"""From prepared scans to label maps, tables and pictures."""
