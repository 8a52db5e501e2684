"""Read and write files among accounts that are not trusted: below a root, atomically, durably, ours alone."""
