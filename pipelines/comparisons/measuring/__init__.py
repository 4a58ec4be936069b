"""What finished runs say as numbers: systems, their metrics by user, slices, lists, the data."""
