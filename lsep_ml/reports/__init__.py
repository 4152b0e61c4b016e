"""What people look at: figures and tables made from the files a run leaves, without torch."""
