"""Scripts that make the numbers shipped with the package."""
