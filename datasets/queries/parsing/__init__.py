"""Read queries in JSON: one module for each part of the language."""
