"""This host: files, locks, guard, processes, and their twins of a dry run. Acts when called, decides no step."""
