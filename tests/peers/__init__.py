"""The original implementations of the dialects, stepped beside this library.

`course` is the run, `cases` the options, `frameworks` how each is run, `record` what a run leaves behind, `compare` the
figures. Only `compare` imports this library, so the rest runs in an environment with only one other
framework: `make peers` records those that cannot live in the test environment.
"""
