"""A page to play with: a model in the browser. See docs/use/app.md."""
