"""Pages that people read: one document, as Markdown and as HTML, in which no foreign text becomes anything but text."""
