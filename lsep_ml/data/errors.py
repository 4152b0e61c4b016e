"""The one exception of this package."""


class DataError(ValueError):
    """The data set on disk, or what was asked of it, is unusable; the message names what, where and the way
    out."""
