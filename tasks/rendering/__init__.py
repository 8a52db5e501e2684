"""Documents as Markdown, HTML and SVG, safe against hostile text. Independent of Prefect, and reads no file."""
