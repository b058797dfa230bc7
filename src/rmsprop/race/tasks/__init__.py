"""The tasks: one small file each, named in `rmsprop.race.task`; cheap to import until `load` is called."""
