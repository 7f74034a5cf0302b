"""Masks against reference masks: the tables and figures of the paper."""
