"""Categories: a tree without cycles. A category that products or other categories refer to cannot be deleted."""
