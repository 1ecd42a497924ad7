"""Problems in a data set that a detector is to be trained on: what stops a training, and what makes it worse."""
