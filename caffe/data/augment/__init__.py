"""What training does to an image and its boxes: crops, expansion, distortion, resizing."""
