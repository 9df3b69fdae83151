"""Stock: what comes in and goes out, and what is held for somebody. It never goes below zero, nor sales below holds."""
