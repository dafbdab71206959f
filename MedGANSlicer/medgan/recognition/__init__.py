"""What is in a volume: kind of scan, part of the body and plane of the slices, told by a small network."""
