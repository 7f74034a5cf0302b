"""Digital necks: Dixon scans whose muscles and fat are known exactly.

`subject` draws people, `body` builds their necks from the measured `atlas` out of
`tissues`, `infiltration` puts fat into muscles, `pose` lays a neck into the scanner,
`sampling` fills voxels, `signal` and `artefacts` make images of them; `neck` and `scan`
are the whole of a person and of a scan, `dataset` a folder of scans.
"""
