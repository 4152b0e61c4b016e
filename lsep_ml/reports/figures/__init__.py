"""Figures, from arrays and from what was read of a group of runs; none of it needs torch.

of_run        the figures that a run leaves beside its result
of_group      the figures of a report: which runs, which images, and what is said of them
method_plots  curves, bars and histograms that set methods side by side, from plain arrays
style         how a method looks everywhere
saving        from a figure to its files, and into the page
"""
