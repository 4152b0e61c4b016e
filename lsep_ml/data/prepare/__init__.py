"""From fetched archives to the tree that is read."""
