"""Documents as Markdown, HTML and SVG, safe against hostile text. Nothing here knows Prefect or reads a file."""
