"""hansa: collaborative machine learning among parties who do not pool their data."""

__version__ = "0.1.0"
