"""What this package raises."""


class DataError(ValueError):
    """The data set, or what was asked of it, is unusable; the message names what, where and the way out."""


class ImageError(DataError):
    """One image file cannot be used; the message is the reason."""
