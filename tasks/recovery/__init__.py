"""§7: restart the API and prove which model it serves. Nothing here runs unasked, or changes evidence."""
