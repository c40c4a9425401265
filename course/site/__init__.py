"""The site: sources.py gathers what is on it, pages.py and reference.py say how Sphinx reads that."""
