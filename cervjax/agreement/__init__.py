"""How well two sets of masks agree: the paper's Tables 2-4 and Figures 3 and 4.

`report.run` compares two folders and writes a folder of results; `comparison` turns a
pair of masks into rows, `statistics` are pure functions on arrays.
"""
