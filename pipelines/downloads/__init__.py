"""Fetching from other people's servers, as a good citizen and trusting nothing that they send."""
