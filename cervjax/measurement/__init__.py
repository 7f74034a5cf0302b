"""Muscle fat infiltration and volume."""
