from bundle_runs import digits_run, photo_run, photo_tree

__all__ = ["digits_run", "photo_run", "photo_tree"]
