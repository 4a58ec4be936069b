"""The page of a comparison: what it shows, and how it is written as one HTML file."""
