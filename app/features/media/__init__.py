"""Media: pictures named by their content, and the renditions of them that shops show. Originals are never served."""
