"""What a run did and learned, as one HTML page."""
