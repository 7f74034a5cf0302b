"""Statistics of a cohort: the models of Weber et al. 2021, and change between sessions.

`report.analyse_cohort` reads two tables and writes a folder of results; the other
modules are pure functions on arrays and rows. numpy, scipy and matplotlib are all they
need.
"""
