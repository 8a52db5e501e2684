"""§5: all changes of latest/: promote, roll back, mirror, pull. Nothing here collects, seals or sends evidence."""
