"""The owners of the dialects, stepped beside this library: the course they all run, their options, their recordings.

`course` is the run, `cases` the options, `owners` the frameworks, `record` what a run leaves behind, `compare` the
figures. Only `compare` imports this library, so the rest runs in an environment that has nothing but an owner:
`make peers` records those that cannot live in the test environment.
"""
