"""Our kinds of objects, as a cluster needs them: files to apply."""
