"""What an enhancement is made of: one file for each thing that a model takes away, noise, blur or thick slices."""
