"""What would go wrong, or hurt, in a data set that a detector is to be trained on."""
