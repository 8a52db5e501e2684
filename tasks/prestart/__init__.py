"""prestart."""
