"""gobblerd: a versioned registry on a shared filesystem, fed by dropped request files."""

__version__ = "0.1.0"
