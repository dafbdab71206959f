"""Training: the loop, the data it is fed, and the kinds of models it trains."""
