"""§7: the API brought back and its model proven. Nothing here runs unasked, or changes evidence."""
