"""From records to batches: order, worker processes, memory."""
