"""The pages for a browser: the playground and the API reference."""
