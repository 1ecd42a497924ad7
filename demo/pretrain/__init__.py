"""How the weights that the demo starts from were made: pretrain.sh."""
