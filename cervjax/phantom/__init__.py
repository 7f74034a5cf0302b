"""Digital necks: Dixon scans whose muscles and fat are known exactly.

`subject` draws subjects; `body` builds their necks from the measured `atlas`, moved by
`deformation`, out of `tissues`; `infiltration` puts fat into muscles, `pose` lays a
neck into the scanner, `sampling` fills voxels, `signal`, `artefacts` and `acquisition`
make images of them. `neck` and `scan` put these together for a subject and for a scan,
`records` and `dataset` write scans and folders of them.
"""
